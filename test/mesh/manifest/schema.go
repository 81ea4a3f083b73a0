package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"
)

// definitions are the schemas of custom resources.
type definitions map[schema.GroupVersionKind]*spec.Schema

func readDefinitions(names []string) (definitions, error) {
	known := definitions{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, document := range split(string(text)) {
			var definition struct {
				Spec struct {
					Group    string
					Names    struct{ Kind string }
					Versions []struct {
						Name   string
						Schema struct {
							OpenAPIV3Schema *spec.Schema `json:"openAPIV3Schema"`
						}
					}
				}
			}
			if err := yaml.Unmarshal([]byte(document), &definition); err != nil {
				return nil, fmt.Errorf("reading %s: %w", name, err)
			}
			for _, version := range definition.Spec.Versions {
				known[schema.GroupVersionKind{Group: definition.Spec.Group, Version: version.Name, Kind: definition.Spec.Names.Kind}] = version.Schema.OpenAPIV3Schema
			}
		}
	}
	return known, nil
}

// check holds one document against what it says it is.
func (d definitions) check(document string) error {
	var object map[string]any
	if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
		return fmt.Errorf("%w in:\n%s", err, document)
	}
	apiVersion, _ := object["apiVersion"].(string)
	kind, _ := object["kind"].(string)
	metadata, _ := object["metadata"].(map[string]any)
	what := fmt.Sprintf("%s %v", kind, metadata["name"])
	of := schema.FromAPIVersionAndKind(apiVersion, kind)
	if scheme.Scheme.Recognizes(of) {
		strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
		if _, _, err := strict.Decode([]byte(document), nil, nil); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	definition := d[of]
	if definition == nil {
		return fmt.Errorf("%s: nothing known about %s", what, of)
	}
	errs := unknown(definition, object, what)
	// What an API server adds itself is no part of a definition.
	result := validate.NewSchemaValidator(definition, nil, what, strfmt.Default).Validate(runtime.DeepCopyJSON(numbers(object).(map[string]any)))
	return errors.Join(append(errs, result.Errors...)...)
}

// unknown finds fields that a schema does not have. The metadata is the API server's own.
func unknown(s *spec.Schema, value any, path string) []error {
	if keep, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields"); keep {
		return nil
	}
	var errs []error
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			at := path + "." + name
			property, has := s.Properties[name]
			switch {
			case name == "metadata" || name == "apiVersion" || name == "kind":
			case has:
				errs = append(errs, unknown(&property, value[name], at)...)
			case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
				errs = append(errs, unknown(s.AdditionalProperties.Schema, value[name], at)...)
			default:
				errs = append(errs, fmt.Errorf("%s: unknown field", at))
			}
		}
	case []any:
		for i, item := range value {
			if s.Items != nil && s.Items.Schema != nil {
				errs = append(errs, unknown(s.Items.Schema, item, fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
	}
	return errs
}

// numbers turns whole numbers into integers, as an API server reads them.
func numbers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			value[name] = numbers(member)
		}
	case []any:
		for i, item := range value {
			value[i] = numbers(item)
		}
	case float64:
		if value == float64(int64(value)) {
			return int64(value)
		}
	}
	return value
}
