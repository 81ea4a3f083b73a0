// Package suite runs files of decisions against a configuration, and says what they do
// not prove. It decides by the gate that serve uses.
//
// Start reading at [Load] and [Runner.Run]. Then: ask.go puts principals in the place of
// credentials, coverage.go finds what no test reaches, mutant.go changes the policy and
// looks whether a test notices, junit.go and text.go print.
package suite
