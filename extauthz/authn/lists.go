package authn

import (
	"encoding/binary"
	"sync"
)

const (
	// maxLists is how many lists are known to be equal to others, and maxListBytes how
	// long one may be: two megabytes at most, and a few kilobytes usually.
	maxLists     = 2048
	maxListBytes = 512
)

// lists gives equal lists of texts as one: a hundred thousand people have the same few
// lists of roles, scopes and tenants between them. It is safe for concurrent use.
type lists struct {
	mu    sync.Mutex
	known map[string][]string // by their texts, each after its length
}

// one is a list with the texts of list, which may belong to somebody who changes it. It
// may not be changed itself, and has no room for more.
func (l *lists) one(list []string) []string {
	if list == nil {
		return nil
	}
	var room [maxListBytes]byte
	key := room[:0]
	for _, text := range list {
		if len(key)+binary.MaxVarintLen64+len(text) > maxListBytes {
			return copied(list)
		}
		key = append(binary.AppendUvarint(key, uint64(len(text))), text...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.known[string(key)]; ok {
		return known
	}
	if l.known == nil || len(l.known) >= maxLists {
		l.known = make(map[string][]string) // the lists that are in use stay
	}
	made := copied(list)
	l.known[string(key)] = made
	return made
}

// copied is a copy of list with texts that are shared.
func copied(list []string) []string {
	texts := make([]string, len(list))
	for i, text := range list {
		texts[i] = shared(text)
	}
	return texts
}
