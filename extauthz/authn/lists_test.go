package authn

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

func TestLists(t *testing.T) {
	long := strings.Repeat("x", maxListBytes)
	for _, row := range []struct {
		name  string
		list  []string
		other []string // with the same texts one after the other
		one   bool     // equal lists are one
	}{
		{"nothing", nil, []string{}, false},
		{"an empty list", []string{}, []string{""}, false},
		{"one text", []string{"reader"}, []string{"read", "er"}, true},
		{"two texts", []string{"a", "bc"}, []string{"ab", "c"}, true},
		{"a text that looks like two", []string{"a\x01b"}, []string{"a", "b"}, true},
		{"the same in another order", []string{"a", "b"}, []string{"b", "a"}, true},
		{"one that is too long to be kept", []string{"a", long}, []string{"a" + long}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			var l lists
			l.one(row.other)
			first := l.one(row.list)
			second := l.one(slices.Clone(row.list))
			if !slices.Equal(first, row.list) || !slices.Equal(second, row.list) || (first == nil) != (row.list == nil) {
				t.Fatalf("one(%q) = %q and %q", row.list, first, second)
			}
			if cap(first) != len(first) {
				t.Errorf("there is room for %d more, which would be everybody's", cap(first)-len(first))
			}
			if one := len(first) > 0 && unsafe.SliceData(first) == unsafe.SliceData(second); one != row.one {
				t.Errorf("two equal lists are one: %v, want %v", one, row.one)
			}
			if len(row.list) > 0 {
				list := slices.Clone(row.list)
				kept := l.one(list)
				list[0] = "changed"
				if !slices.Equal(kept, row.list) || !slices.Equal(l.one(row.list), row.list) {
					t.Error("a change of the caller's list changed what is kept")
				}
			}
		})
	}
}

func TestListsAreBounded(t *testing.T) {
	var l lists
	for i := range 3 * maxLists {
		if got := l.one([]string{"role", fmt.Sprint(i)}); got[1] != fmt.Sprint(i) {
			t.Fatalf("list %d is %q", i, got)
		}
		if len(l.known) > maxLists {
			t.Fatalf("%d lists are known, want at most %d", len(l.known), maxLists)
		}
	}
}

func TestTogether(t *testing.T) {
	for _, row := range [][3]string{
		{"", "", ""},
		{"5f0c", "alice", "jti-1"},
		{"alice", "alice", "jti-1"},
		{"alice", "alice", "alice"},
		{"", "alice", ""},
		{"alice", "", "alice"},
		{"a", "ab", "b"},
	} {
		got := row
		together(&got[0], &got[1], &got[2])
		if got != row {
			t.Errorf("together(%q) = %q", row, got)
		}
	}
}
