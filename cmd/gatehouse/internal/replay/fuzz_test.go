package replay

import (
	"bytes"
	"testing"
)

// FuzzRun: whatever is in a log, each of its lines is counted once and nothing else happens.
func FuzzRun(f *testing.F) {
	loaded := load(f, after)
	f.Add(recorded(f, load(f, before), environment["PSEUDONYM_KEY"], 1, requests...))
	f.Add([]byte(`{"outcome":"allowed","reason":"public","request":{"path":"*","context":{"gatehouse.route":"x"}},"principal":{"wildcard":true,"attributes":{"a":{}}},"pseudonymous":true}` + "\n\n{}"))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Add([]byte(`{"outcome":"forbidden","reason":"not_http","request":{"tcp":true},"pseudonymous":true,"pseudonym_key_id":"00","principal":{}}`))
	f.Fuzz(func(t *testing.T, log []byte) {
		result, err := run(t, log, loaded)
		if bytes.HasPrefix(log, gzipMagic) {
			return // its lines are others, if it is compressed at all
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(log, []byte("\n"))
		if len(log) > 0 && log[len(log)-1] != '\n' {
			lines++
		}
		flipped := 0
		for _, flip := range result.Flips {
			flipped += flip.Count
		}
		if result.Records+result.Skipped != lines || flipped+result.Of(Open).Count > result.Records {
			t.Errorf("%d lines came out as %+v", lines, result)
		}
	})
}
