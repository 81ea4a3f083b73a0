package serve

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestReadOnlyMapping(t *testing.T) {
	const binary = "/opt/gate house"
	for _, row := range []struct {
		name, line string
		want       bool
	}{
		{"code", "00400000-016b9000 r-xp 00000000 fe:00 10200945                           /opt/gate house\n", true},
		{"constants", "016b9000-02d3e000 r--p 012b9000 fe:00 10200945                           /opt/gate house\n", true},
		{"variables", "02d3e000-02e23000 rw-p 0293e000 fe:00 10200945                           /opt/gate house\n", false},
		{"shared with others", "016b9000-02d3e000 r--s 012b9000 fe:00 10200945                           /opt/gate house\n", false},
		{"another file", "016b9000-02d3e000 r--p 012b9000 fe:00 10200945                           /opt/gate\n", false},
		{"the heap", "e80800000-e81800000 rw-p 00000000 00:00 0 \n", false},
		{"nothing", "\n", false},
		{"no addresses", "x-y r-xp 00000000 fe:00 1 /opt/gate house\n", false},
		{"backwards", "016b9000-00400000 r-xp 00000000 fe:00 1 /opt/gate house\n", false},
	} {
		if from, to, ok := readOnlyMapping(row.line, binary); ok != row.want || ok && from >= to {
			t.Errorf("%s: %x to %x, %v, want %v", row.name, from, to, ok, row.want)
		}
	}
}

func TestUnmapUnused(t *testing.T) {
	pages := func() int {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "RssFile:")
		kib, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		return kib
	}
	before := pages()
	if err := unmapUnused(); err != nil {
		t.Fatal(err)
	}
	if after := pages(); after > before/2 {
		t.Errorf("%d KiB of files are mapped, before %d", after, before)
	}
}
