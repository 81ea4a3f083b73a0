package hostile

import (
	"encoding/base64"
	"fmt"
	"strings"
)

func basic(user, password string) header {
	return header{"authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

func (s *stack) placeRows() []row {
	good := s.token(nil)
	var rows []row
	add := func(name, value, want string) {
		rows = append(rows, row{name, get("/me/", header{"authorization", value}), want})
	}
	add("no scheme", good, "401 no_credential")
	add("another scheme", "Token "+good, "401 no_credential")
	add("a longer scheme", "BearerX "+good, "401 no_credential")
	add("a scheme with a Kelvin sign", "Bea\u212aer "+good, "401 no_credential")
	add("scheme only", "Bearer", "401 credential_malformed")
	add("scheme and a blank", "Bearer ", "401 credential_malformed")
	add("a tab for the blank", "Bearer\t"+good, "401 credential_malformed")
	add("a colon for the blank", "Bearer:"+good, "401 credential_malformed")
	add("an equals sign for the blank", "Bearer="+good, "401 credential_malformed")
	add("two blanks", "Bearer  "+good, "200 requirement_met")
	add("a blank behind", "Bearer "+good+" ", "200 requirement_met")
	add("a word behind", "Bearer "+good+" x", "401 credential_malformed")
	add("quotes", `Bearer "`+good+`"`, "401 credential_malformed")
	add("parameters", `Bearer token="`+good+`"`, "401 credential_malformed")
	add("a semicolon behind", "Bearer "+good+";", "401 credential_malformed")
	add("the scheme twice", "Bearer Bearer "+good, "401 credential_malformed")
	add("null", "Bearer null", "401")
	add("undefined", "Bearer undefined", "401")
	add("an opaque token", "Bearer abcdef0123456789", "401")
	add("empty", "", "401 no_credential")
	add("a NUL before", "\x00Bearer "+good, "401 no_credential")

	two := func(name string, first, second, want string) {
		rows = append(rows, row{name, get("/me/", header{"authorization", first}, header{"authorization", second}), want})
	}
	mallory := s.token(map[string]any{"sub": "mallory"})
	for _, pair := range [][2]string{
		{"Bearer " + good, "Bearer " + good}, {"Bearer " + good, "Bearer " + mallory}, {"Bearer " + good, "Bearer x"}, {"Bearer x", "Bearer " + good},
		{"Bearer " + good, basic("adam", adamPassword).value}, {basic("adam", adamPassword).value, "Bearer " + good}, {"Bearer " + good, "Digest x"},
		{"Digest x", "Bearer " + good}, {"Bearer " + good, ""}, {"", "Bearer " + good}, {"Bearer", "Bearer " + good}, {"Bearer " + good, good},
	} {
		two(fmt.Sprintf("two lines: %.12q %.12q %d", pair[0], pair[1], len(rows)), pair[0], pair[1], "400 credential_repeated")
		add(fmt.Sprintf("one line for two: %.12q %.12q %d", pair[0], pair[1], len(rows)), pair[0]+", "+pair[1], "400 credential_repeated")
	}
	// Two credentials in two places: the first in order decides, and is final.
	key := header{"x-api-key", batchKey}
	both := func(name, path, want string, headers ...header) {
		rows = append(rows, row{name, get(path, headers...), want})
	}
	both("a wrong key beside a good token", "/me/", "401 api_key_unknown", header{"x-api-key", "wrong"}, header{"authorization", "Bearer " + good})
	both("an empty key beside a good token", "/me/", "401 credential_malformed", header{"x-api-key", ""}, header{"authorization", "Bearer " + good})
	both("a good key beside a bad token", "/me/", "200 requirement_met", key, header{"authorization", "Bearer x"})
	both("a good key beside a repeated token", "/me/", "200 requirement_met", key, header{"authorization", "Bearer x,Bearer y"})
	both("a bad token beside a good cookie", "/me/", "401", header{"authorization", "Bearer x"}, header{"cookie", "access_token=" + good})
	both("a bad cookie beside a good token", "/me/", "200 requirement_met", header{"authorization", "Bearer " + good}, header{"cookie", "access_token=x"})
	both("a bad cookie beside a good query", "/me/?access_token="+good, "401", header{"cookie", "access_token=x"})
	both("a wrong password beside a good cookie", "/me/", "200 requirement_met", basic("adam", "wrong"), header{"cookie", "access_token=" + good})
	both("a key where only tokens are consulted", "/corp/", "401 no_credential", key)
	both("a wrong key where only tokens are consulted", "/corp/", "200 requirement_met", header{"x-api-key", "wrong"}, header{"authorization", "Bearer " + good})
	both("another issuer's token where only corp is consulted", "/corp/", "401 unknown_issuer", header{"authorization", "Bearer " + consoleToken(nil)})
	// On public routes what is not good counts as none.
	for name, headers := range map[string][]header{
		"a bad token": {{"authorization", "Bearer x"}}, "a repeated token": {{"authorization", "Bearer " + good + ",Bearer " + good}}, "a wrong key": {{"x-api-key", "wrong"}},
		"a key from outside": {{"x-inside-key", insideKey}}, "a cookie twice": {{"cookie", "access_token=" + good + "; access_token=x"}}, "a password": {basic("adam", adamPassword)},
	} {
		both("on a public route: "+name, "/public/", "200 public", headers...)
		both("where one asks for nobody: "+name, "/", "200 public", headers...)
	}
	return rows
}

func (s *stack) cookieRows() []row {
	good := s.token(nil)
	var rows []row
	add := func(name, want string, values ...string) {
		r := get("/me/")
		for _, value := range values {
			r = r.with(header{"cookie", value})
		}
		rows = append(rows, row{name, r, want})
	}
	in := "access_token=" + good
	add("among others", "200 requirement_met", "a=1; "+in+"; b=2")
	add("without blanks", "200 requirement_met", "a=1;"+in+";b=2")
	add("twice", "400 credential_repeated", in+"; "+in)
	add("twice, one empty", "400 credential_repeated", in+"; access_token=")
	add("twice, one without a value", "400 credential_repeated", in+"; access_token")
	add("twice, by a comma", "400 credential_repeated", in+",access_token=x")
	add("hidden behind a comma", "400 credential_repeated", "a=1,"+in)
	add("hiding behind a comma", "400 credential_repeated", in+",a=1")
	add("in two lines", "400 credential_repeated", in, in)
	add("another case", "401 no_credential", "Access_Token="+good)
	add("a name that begins like it", "401 no_credential", "access_token2="+good)
	add("a name that ends like it", "401 no_credential", "xaccess_token="+good)
	add("a prefix of security", "401 no_credential", "__Host-access_token="+good)
	add("escaped name", "401 no_credential", "access%5ftoken="+good)
	add("empty", "401", "access_token=")
	add("no value", "401", "access_token")
	add("garbage", "401", "access_token=garbage")
	add("a second value behind an equals sign", "401", in+"=x")
	add("with Bearer", "401", "access_token=Bearer "+good)
	add("a comma between others", "200 requirement_met", "a=1,b=2; "+in)
	add("another one twice", "200 requirement_met", "a=1; a=2; "+in)
	add("a tab before the name", "200 requirement_met", "a=1;\t"+in)
	add("semicolons only", "401 no_credential", ";;;")
	add("in quotes", "200", `access_token="`+good+`"`)
	return rows
}

func (s *stack) queryRows() []row {
	good := s.token(nil)
	var rows []row
	add := func(name, query, want string) { rows = append(rows, row{name, get("/me/?" + query), want}) }
	in := "access_token=" + good
	add("among others", "a=1&"+in+"&b=2", "200 requirement_met")
	add("twice", in+"&"+in, "400 credential_repeated")
	add("twice, one escaped", in+"&access%5Ftoken=x", "400 credential_repeated")
	add("twice, by a semicolon", in+";access_token=x", "400 credential_repeated")
	add("behind a semicolon", "a=1;"+in, "400 credential_repeated")
	add("before a semicolon", in+";a=1", "400 credential_repeated")
	add("escaped name", "access%5ftoken="+good, "200 requirement_met")
	add("escaped value", "access_token=%65"+good[1:], "200 requirement_met")
	add("another case", "ACCESS_TOKEN="+good, "401 no_credential")
	add("as a list", "access_token[]="+good, "401 no_credential")
	add("empty", "access_token=", "401 credential_malformed")
	add("no value", "access_token", "401 credential_malformed")
	add("a bad escape", "access_token=%zz", "401 credential_malformed")
	add("a zero byte", "access_token="+good+"%00", "401 credential_malformed")
	add("a line break", "access_token="+good+"%0d%0a", "401 credential_malformed")
	add("a key", "api_key="+batchKey, "200 requirement_met")
	add("a wrong key", "api_key=wrong", "401 api_key_unknown")
	add("a wrong key and a good token", "api_key=wrong&"+in, "401 api_key_unknown")
	return rows
}

func (s *stack) keyRows() []row {
	var rows []row
	key := func(name, value, want string) {
		rows = append(rows, row{name, get("/me/", header{"x-api-key", value}), want})
	}
	for name, value := range map[string]string{
		"a prefix": batchKey[:len(batchKey)-1], "one more character": batchKey + "x", "another case": strings.ToUpper(batchKey), "twice over": batchKey + batchKey,
		"its id": "batch", "a zero": "0", "null": "null", "quotes": `"` + batchKey + `"`, "a wildcard": "*", "with Bearer": "Bearer " + batchKey, "another's key": insideKey,
		"escaped": strings.ReplaceAll(batchKey, "-", "%2d"), "a reference": "${BATCH_KEY}", "its variable": "BATCH_KEY", "of 32 KiB": strings.Repeat("k", 32<<10),
	} {
		key("a key: "+name, value, "401 api_key_unknown")
	}
	key("a key: a blank before", " "+batchKey, "200 requirement_met")
	key("a key: a blank behind", batchKey+"\t", "200 requirement_met")
	key("a key: empty", "", "401 credential_malformed")
	key("a key: blanks", "   ", "401 credential_malformed")
	key("a key: a zero byte behind", batchKey+"\x00", "401 credential_malformed")
	key("a key: outside ASCII", batchKey+"é", "401 credential_malformed")
	key("a key: with a comma", batchKey+",", "400 credential_repeated")
	key("a key: two", batchKey+","+batchKey, "400 credential_repeated")
	rows = append(rows,
		row{"a key in two lines", get("/me/", header{"x-api-key", batchKey}, header{"x-api-key", batchKey}), "400 credential_repeated"},
		row{"a key and an empty line", get("/me/", header{"x-api-key", batchKey}, header{"x-api-key", ""}), "400 credential_repeated"},
		row{"a key under another spelling", get("/me/", header{"x_api_key", batchKey}), "401 no_credential"},
		row{"a key in the header and the query", get("/me/?api_key=wrong", header{"x-api-key", batchKey}), "200 requirement_met"},
		row{"two keys of two authenticators", get("/me/", header{"x-api-key", batchKey}, header{"x-inside-key", "wrong"}), "200 requirement_met"},
	)
	// only_from: right or wrong, a key from elsewhere is refused alike.
	for source, want := range map[string]string{
		"10.0.0.1": "200 requirement_met", "10.255.255.255": "200 requirement_met", "::ffff:10.0.0.1": "200 requirement_met", "11.0.0.0": "401 wrong_place", "9.255.255.255": "401 wrong_place",
		"::1": "401 wrong_place", "127.0.0.1": "401 wrong_place", "10.0.0.1.evil.example": "401 wrong_place", "010.0.0.1": "401 wrong_place", "10.0.0": "401 wrong_place", "": "401 wrong_place",
		"10.0.0.1, 192.0.2.1": "401 wrong_place", "::10.0.0.1": "401 wrong_place", "2002:0a00:0001::": "401 wrong_place", "0x0a000001": "401 wrong_place",
	} {
		r := get("/me/", header{"x-inside-key", insideKey}, header{"x-forwarded-for", "10.0.0.1"}, header{"x-real-ip", "10.0.0.1"}, header{"forwarded", "for=10.0.0.1"}, header{"x-envoy-external-address", "10.0.0.1"})
		if r.source = source; source == "" {
			r.source = "unknown"
		}
		rows = append(rows, row{"an inside key from " + r.source, r, want})
	}
	for value, want := range map[string]string{"internal": "200 requirement_met", "Internal": "401 wrong_place", "internal ": "401 wrong_place", "": "401 wrong_place", "client": "401 wrong_place"} {
		for _, key := range []string{insideKey, "wrong"} {
			r := get("/me/", header{"x-inside-key", key}, header{"listener", "internal"}, header{"x-envoy-listener", "internal"})
			r.context = map[string]string{"listener": value}
			expect := want
			if key == "wrong" && want[:3] == "200" {
				expect = "401 api_key_unknown"
			}
			rows = append(rows, row{fmt.Sprintf("an inside key %q on listener %q", key, value), r, expect})
		}
	}
	rows = append(rows, row{"a wrong place beside a good token", get("/me/", header{"x-inside-key", insideKey}, s.bearer(s.token(nil))[0]), "401 wrong_place"})

	password := func(name string, h header, want string) {
		r := get("/me/", h)
		r.source = fmt.Sprintf("198.51.100.%d", len(rows)%256) // failures are limited by name and source
		rows = append(rows, row{name, r, want})
	}
	encode := func(s string) header {
		return header{"authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(s))}
	}
	password("a password: wrong", basic("adam", "wrong"), "401 password_wrong")
	password("a password: empty", basic("adam", ""), "401")
	password("a password: unknown user", basic("eve", adamPassword), "401 password_wrong")
	password("a password: empty user", basic("", adamPassword), "401")
	password("a password: user in another case", basic("Adam", adamPassword), "401 password_wrong")
	password("a password: a blank behind the user", basic("adam ", adamPassword), "401 password_wrong")
	password("a password: a zero byte behind", basic("adam", adamPassword+"\x00"), "401")
	password("a password: no colon", encode("adam"), "401 credential_malformed")
	password("a password: nothing", encode(""), "401 credential_malformed")
	password("a password: not base64", header{"authorization", "Basic !!!"}, "401 credential_malformed")
	password("a password: bad padding", header{"authorization", "Basic YWRhbTphZG1pbg"}, "401")
	password("a password: beyond what bcrypt reads", basic("adam", adamPassword+strings.Repeat("x", 100)), "401 password_wrong")
	password("a password: no UTF-8", encode("ad\xffam:x"), "401")
	password("a password: the hash", basic("adam", "$2a$04$"), "401 password_wrong")
	return rows
}
