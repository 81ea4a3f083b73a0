// Validates SARIF logs, a JSON object of them by name on standard input, by the schema of
// the standard, and prints what is wrong as JSON.
const Ajv = require('ajv');
const schema = require('@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json');
const { readFileSync } = require('fs');

const ajv = new Ajv({ allErrors: true, schemaId: 'id', logger: false, unknownFormats: 'ignore' });
ajv.addMetaSchema(require('ajv/lib/refs/json-schema-draft-04.json'));
const validate = ajv.compile(schema);
const logs = JSON.parse(readFileSync(0, 'utf8'));
const wrong = {};
for (const [name, log] of Object.entries(logs)) {
  if (!validate(log)) wrong[name] = validate.errors.map((e) => `${e.dataPath} ${e.message}`);
}
console.log(JSON.stringify(wrong));
