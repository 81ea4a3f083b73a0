package extauthz

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A client is what the request's headers tell about who reads the answer.
type client struct {
	grpc    bool // a gRPC call: Envoy makes the body its grpc-message
	upgrade bool // a websocket or another protocol is asked for
	script  bool // made by a script in a page, not by somebody who looks at one
	bearer  bool // has an Authorization header

	accept string
}

func readClient(headers []policy.Pair) client {
	var c client
	for i := range headers {
		value := headers[i].Value
		switch headers[i].Name {
		case "content-type":
			c.grpc = isGRPC(value)
		case "upgrade":
			c.upgrade = true
		case "sec-fetch-mode":
			c.script = c.script || value == "cors" || value == "no-cors" || value == "same-origin"
		case "x-requested-with":
			c.script = c.script || strings.EqualFold(value, "XMLHttpRequest")
		case "authorization":
			c.bearer = true
		case "accept":
			if c.accept != "" {
				c.accept += ","
			}
			c.accept += value
		}
	}
	return c
}

// isGRPC tells whether a content type is application/grpc or a relative of it that
// has the status in trailers. grpc-web has its own answers.
func isGRPC(contentType string) bool {
	const grpc = "application/grpc"
	return len(contentType) >= len(grpc) && strings.EqualFold(contentType[:len(grpc)], grpc) &&
		(len(contentType) == len(grpc) || contentType[len(grpc)] == '+' || contentType[len(grpc)] == ';')
}

// looks tells whether a person with a browser waits for a page.
func (c *client) looks(method string) bool {
	return isReading(method) && !c.grpc && !c.upgrade && !c.script && prefers(c.accept) == "text/html"
}

// navigates tells whether the request may be one that loads a page, as far as anybody
// can know of clients that say little.
func (c *client) navigates(method string) bool {
	return isReading(method) && !c.grpc && !c.upgrade && !c.script && !c.bearer
}

func isReading(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// bodyTypes are what a refusal can be written in; of equally wanted ones the first.
var bodyTypes = [...]string{"application/problem+json", "application/json", "text/html", "text/plain"}

// prefers gives the type of bodyTypes that an Accept header (RFC 9110 §12.5.1) asks for
// most. Who takes anything, or says nothing, gets the first.
func prefers(accept string) string {
	best, bestQuality := bodyTypes[0], 0.0
	for _, kind := range bodyTypes {
		if quality, named := acceptQuality(accept, kind); named && quality > bestQuality {
			best, bestQuality = kind, quality
		}
	}
	return best
}

// acceptQuality gives the weight of kind in an Accept header, if it is named there: by
// itself, or by its `text/*`. What only `*/*` covers is not named.
func acceptQuality(accept, kind string) (quality float64, named bool) {
	for one := range strings.SplitSeq(accept, ",") {
		media, parameters, _ := strings.Cut(one, ";")
		media = strings.TrimSpace(media)
		family, _, _ := strings.Cut(kind, "/")
		exact := strings.EqualFold(media, kind)
		if !exact && (named || !strings.EqualFold(media, family+"/*")) {
			continue
		}
		quality, named = 1, true
		for p := range strings.SplitSeq(parameters, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
			if !strings.EqualFold(strings.TrimSpace(name), "q") {
				continue
			}
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(q >= 0 && q <= 1) {
				q = 0
			}
			quality = q
		}
		if exact {
			return quality, true
		}
	}
	return quality, named
}
