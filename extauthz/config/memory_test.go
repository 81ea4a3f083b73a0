package config

import (
	"runtime"
	"testing"
	"time"
	"weak"
)

// TestLoadedLetsTheTextGo keeps the tree of the YAML, some 2 KB per route, from living
// as long as the configuration that was made of it.
func TestLoadedLetsTheTextGo(t *testing.T) {
	text := "version: 1\nroutes:\n- {match: [\"/a/\"], name: a, public: true}\n"
	doc, problems := parse("gatehouse.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	source, positions := weak.Make(doc.src), weak.Make(doc.pos)
	b := newBuilder(doc, "gatehouse.yaml", nil, nil)
	b.build()
	loaded, err := b.finish("gatehouse.yaml", []byte(text))
	if err != nil || len(b.errors) > 0 {
		t.Fatal(err, b.errors)
	}
	doc, b = nil, nil
	deadline := time.Now().Add(10 * time.Second)
	for source.Value() != nil || positions.Value() != nil {
		if time.Now().After(deadline) {
			t.Fatalf("the text (%v) or its tree (%v) is still held", source.Value() != nil, positions.Value() != nil)
		}
		runtime.GC()
	}
	runtime.KeepAlive(loaded)
	loaded.Close()
}
