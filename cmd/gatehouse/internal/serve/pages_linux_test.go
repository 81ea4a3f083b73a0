package serve

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestReadOnlyMappings(t *testing.T) {
	const binary = "/opt/gate house"
	const clean, written = "Rss: 64 kB\nPrivate_Dirty: 0 kB\nAnonymous: 0 kB\nVmFlags: rd ex\n", "Rss: 64 kB\nAnonymous: 4 kB\n"
	for _, row := range []struct {
		name, smaps string
		want        []mapping
	}{
		{"code", "00400000-016b9000 r-xp 00000000 fe:00 10200945                           /opt/gate house\n" + clean, []mapping{{0x400000, 0x16b9000}}},
		{"constants", "016b9000-02d3e000 r--p 012b9000 fe:00 10200945                           /opt/gate house\n" + clean, []mapping{{0x16b9000, 0x2d3e000}}},
		{"constants that the loader wrote", "016b9000-02d3e000 r--p 012b9000 fe:00 10200945                           /opt/gate house\n" + written, nil},
		{"not counted", "016b9000-02d3e000 r--p 012b9000 fe:00 10200945                           /opt/gate house\nRss: 4 kB\n", nil},
		{
			"one after another",
			"1000-2000 r-xp 00000000 fe:00 1 /opt/gate house\n" + written + "3000-4000 r-xp 00000000 fe:00 1 /opt/gate house\n" + clean + "5000-6000 r-xp 00000000 fe:00 1 /lib/c\n" + clean,
			[]mapping{{0x3000, 0x4000}},
		},
		{"variables", "02d3e000-02e23000 rw-p 0293e000 fe:00 10200945                           /opt/gate house\n" + clean, nil},
		{"shared with others", "016b9000-02d3e000 r--s 012b9000 fe:00 10200945                           /opt/gate house\n" + clean, nil},
		{"another file", "016b9000-02d3e000 r--p 012b9000 fe:00 10200945                           /opt/gate\n" + clean, nil},
		{"the heap", "e80800000-e81800000 rw-p 00000000 00:00 0 \n" + clean, nil},
		{"nothing", "\n", nil},
		{"no addresses", "x-y r-xp 00000000 fe:00 1 /opt/gate house\n" + clean, nil},
		{"backwards", "016b9000-00400000 r-xp 00000000 fe:00 1 /opt/gate house\n" + clean, nil},
	} {
		if got := readOnlyMappings(row.smaps, binary); !slices.Equal(got, row.want) {
			t.Errorf("%s: %x, want %x", row.name, got, row.want)
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
