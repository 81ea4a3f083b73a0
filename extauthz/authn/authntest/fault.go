package authntest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A Fault is something that goes wrong at an issuer.
type Fault uint8

const (
	NoFault          Fault = iota
	Status500              // an error page with status 500
	ErrorDocument          // {"error": …} with status 200, as gateways in trouble answer
	EmptySet               // {"keys": []}
	Garbage                // bytes that are no JSON, with status 200
	Hang                   // no answer at all
	RedirectAway           // to another host, which would answer
	RedirectHere           // to the same document, once: no fault, if it is followed
	RedirectLoop           // to itself, without end
	Truncated              // half of the document, and the connection is cut
	Drip                   // the document, byte by byte, too slowly
	Huge                   // the document, and then spaces without end
	Reset                  // the connection is cut before any answer
	OtherIssuer            // discovery names another issuer
	WrongCertificate       // TLS with a certificate for another name, from nobody
	Duplicates             // every member of the document twice
)

var faultNames = [...]string{
	"none", "status 500", "error document", "empty set", "garbage", "hang", "redirect away", "redirect here", "redirect loop",
	"truncated", "drip", "huge", "reset", "other issuer", "wrong certificate", "duplicates",
}

func (f Fault) String() string { return faultNames[f] }

// An Endpoint is one of the documents of an issuer.
type Endpoint uint8

const (
	Everywhere Endpoint = iota
	Discovery
	KeySet
)

// Break has fault happen at an endpoint, until the next Break; [NoFault] repairs.
func (i *Issuer) Break(fault Fault, at Endpoint) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fault, i.faultAt = fault, at
	// A connection that is open has its certificate already.
	i.server.SetKeepAlivesEnabled(fault != WrongCertificate)
}

// maxHuge bounds what [Huge] sends, should nobody hang up.
const maxHuge = 64 << 20

func (i *Issuer) answer(w http.ResponseWriter, r *http.Request, document map[string]any, fault Fault) {
	if fault == OtherIssuer {
		document["issuer"] = "https://somebody.example"
	}
	body, err := json.Marshal(document)
	if err != nil {
		panic(err) // tests publish plain values
	}
	w.Header().Set("Content-Type", "application/json")
	switch fault {
	case Status500:
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	case ErrorDocument:
		body = []byte(`{"error":"temporarily_unavailable"}`)
	case EmptySet:
		body = []byte(`{"keys":[]}`)
	case Garbage:
		body = []byte("<html>\x00\xff down for maintenance")
	case Duplicates:
		body = append(append(body[:len(body)-1:len(body)-1], ','), body[1:]...)
	case Hang:
		i.hang(r)
		return
	case RedirectAway:
		// The same server under its other name is another host to whoever compares.
		http.Redirect(w, r, "http://localhost:"+strconv.Itoa(i.port())+r.URL.Path, http.StatusFound)
		return
	case RedirectHere:
		if r.URL.RawQuery == "" {
			http.Redirect(w, r, r.URL.Path+"?again", http.StatusFound)
			return
		}
	case RedirectLoop:
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
		return
	case Reset:
		panic(http.ErrAbortHandler)
	case Truncated:
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		return
	case Drip:
		i.drip(w, r, body)
		return
	case Huge:
		_, _ = w.Write(body)
		spaces := make([]byte, 64<<10)
		for n := range spaces {
			spaces[n] = ' '
		}
		for sent := 0; sent < maxHuge; sent += len(spaces) {
			if _, err := w.Write(spaces); err != nil {
				return
			}
		}
		return
	}
	_, _ = w.Write(body)
}

func (i *Issuer) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-i.hung:
	}
}

func (i *Issuer) drip(w http.ResponseWriter, r *http.Request, body []byte) {
	flusher := http.NewResponseController(w)
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for n := range body {
		select {
		case <-ticks.C:
		case <-r.Context().Done():
			return
		case <-i.hung:
			return
		}
		if _, err := fmt.Fprintf(w, "%c", body[n]); err != nil {
			return
		}
		if err := flusher.Flush(); err != nil {
			return
		}
	}
}
