// Generates the Postman collection from the OpenAPI document:
//
//   node make_collection.mjs OPENAPI_JSON COLLECTION_JSON
//
// openapi-to-postmanv2 generates one request per operation. This script adds the order of flow.mjs,
// real bodies and checks of each response. It writes the same output for the same document.

import { readFileSync, writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import converter from 'openapi-to-postmanv2'

import { DESCRIPTION, LAST_FOLDER, STEPS, VARIABLES } from './flow.mjs'

// This id never changes, so that an imported collection replaces the older one.
const COLLECTION_ID = '6f6b4f5e-2d0c-4c0a-9a53-ca4111010001'

const [documentPath, collectionPath] = process.argv.slice(2)
const text = readFileSync(documentPath, 'utf8')
const api = JSON.parse(text)

const operations = readOperations(api)
const templates = await generateTemplates(text)
const steps = [...STEPS, ...addMissingSteps()]
writeFileSync(collectionPath, `${JSON.stringify(buildCollection(), null, 1)}\n`)

function readOperations({ paths }) {
  const methods = ['get', 'put', 'post', 'patch', 'delete']
  const found = new Map()
  for (const [path, item] of Object.entries(paths))
    for (const method of methods.filter((name) => name in item))
      found.set(item[method].operationId, {
        ...item[method],
        route: `${method.toUpperCase()} ${path}`,
      })
  return found
}

// The requests that openapi-to-postmanv2 generates, by method and path.
async function generateTemplates(data) {
  const convert = promisify(converter.convertV2)
  const options = {
    folderStrategy: 'Tags',
    alwaysInheritAuthentication: true,
    enableOptionalParameters: false,
  }
  const { result, reason, output } = await convert({ type: 'string', data }, options)
  if (!result) throw new Error(reason)
  const requests = output[0].data.item.flatMap((folder) => folder.item).map((item) => item.request)
  const buildRoute = ({ method, url }) => `${method} /${url.path.join('/').replace(/:(\w+)/g, '{$1}')}`
  return new Map(requests.map((request) => [buildRoute(request), request]))
}

// Steps for the operations that flow.mjs does not name: each is last in the folder of its tag.
function addMissingSteps() {
  const named = new Set(STEPS.map((step) => step.operation))
  const missing = [...operations.keys()].filter((id) => !named.has(id))
  for (const id of missing) console.error(`flow.mjs has no step for the operation ${id}.`)
  return missing.map((operation) => ({ operation }))
}

function buildCollection() {
  const described = new Map(api.tags.map((tag) => [tag.name, tag.description]))
  const tags = [...operations.values()].map((operation) => operation.tags[0])
  const names = new Set([...described.keys(), ...tags])
  const folders = new Map(
    [...names].map((name) => [name, { name, description: described.get(name), item: [] }]),
  )
  folders.set(LAST_FOLDER.name, { ...LAST_FOLDER, item: [] })
  for (const step of steps) {
    const operation = operations.get(step.operation)
    if (!operation)
      throw new Error(`flow.mjs: the document has no operation ${step.operation}.`)
    folders.get(step.folder ?? operation.tags[0]).item.push(buildItem(step, operation))
  }
  return {
    info: {
      _postman_id: COLLECTION_ID,
      name: api.info.title,
      description: `${api.info.summary}\n\n${DESCRIPTION}`,
      schema: 'https://schema.getpostman.com/json/collection/v2.1.0/collection.json',
    },
    auth: { type: 'bearer', bearer: [{ key: 'token', value: '{{access_token}}', type: 'string' }] },
    variable: VARIABLES.map((key) => ({ key, value: '' })),
    item: [...folders.values()].filter((folder) => folder.item.length),
  }
}

function buildItem(step, operation) {
  const event = [buildScript('test', [...writeChecks(step, operation), ...readLines(step.after)])]
  if (step.before) event.unshift(buildScript('prerequest', readLines(step.before)))
  return {
    name: step.name ?? operation.summary,
    event,
    request: buildRequest(step, operation),
    response: [],
  }
}

function buildRequest(step, operation) {
  const template = structuredClone(templates.get(operation.route))
  const { url, header, method, body } = replaceRichText(template)
  url.host = ['{{base_url}}']
  for (const variable of url.variable)
    variable.value = step.path?.[variable.key] ?? `{{${variable.key}}}`
  fillFields(url.query, step.query, readDefaults(operation))
  fillFields(header, step.headers)
  if (body?.mode === 'urlencoded') fillFields(body.urlencoded, step.form)
  if (body?.mode === 'raw') body.raw = JSON.stringify(buildBody(step, operation), null, 2)
  return {
    description: [operation.description, ...formatExamples(operation)].join('\n\n'),
    method,
    url,
    header,
    ...(body?.mode && { body }),
    ...(!operation.security && { auth: { type: 'noauth' } }),
  }
}

// Sets the values of the step. Optional fields without a value stay, but disabled in Postman.
function fillFields(fields, given = {}, defaults = {}) {
  for (const field of fields) {
    const { key } = field
    if (['Accept', 'Content-Type'].includes(key)) continue
    field.disabled &&= !(key in given)
    field.value = given[key] ?? (field.disabled ? String(defaults[key] ?? '') : `{{${key}}}`)
  }
  const unknown = Object.keys(given).filter((key) => !fields.some((field) => field.key === key))
  if (unknown.length) throw new Error(`flow.mjs: the document has no parameter ${unknown}.`)
}

function readDefaults({ parameters = [] }) {
  return Object.fromEntries(parameters.map(({ name, schema }) => [name, schema.default]))
}

function buildBody({ example, change }, operation) {
  const examples = readExamples(operation)
  const name = example ?? Object.keys(examples)[0]
  if (name && !(name in examples))
    throw new Error(`flow.mjs: ${operation.operationId} has no example ${name}.`)
  return { ...examples[name]?.value, ...change }
}

function formatExamples(operation) {
  return Object.values(readExamples(operation)).map(
    ({ summary, value }) => `**${summary}**\n\`\`\`json\n${JSON.stringify(value, null, 2)}\n\`\`\``,
  )
}

function readExamples(operation) {
  return operation.requestBody?.content['application/json']?.examples ?? {}
}

// Returns script lines that check the response against the document: status, required headers,
// media type, required fields.
function writeChecks(step, operation) {
  const succeeds = Object.keys(operation.responses).filter((code) => code < '300')
  const codes = [step.status ?? succeeds].flat().map(Number)
  const { content = {}, headers = {} } = operation.responses[codes[0]]
  const [type] = Object.keys(content)
  const lines = [
    writeTest(
      codes.join(' or '),
      `pm.expect(${JSON.stringify(codes)}, pm.response.text()).to.include(pm.response.code)`,
    ),
    ...Object.keys(headers)
      .filter((name) => headers[name].required)
      .map((name) => writeTest(name, `pm.response.to.have.header('${name}')`)),
  ]
  if (!type) return [...lines, writeTest('no body', `pm.expect(pm.response.text()).to.equal('')`)]
  const hasType = `pm.expect(pm.response.headers.get('Content-Type')).to.include('${type}')`
  lines.push(writeTest(type, hasType))
  if (!type.endsWith('json')) return lines
  lines.push('const body = pm.response.json()')
  const fields = listRequiredFields(content[type].schema)
  const hasFields = `pm.expect(body).to.include.all.keys(${JSON.stringify(fields)})`
  if (fields.length) lines.push(writeTest('the required fields', hasFields))
  return lines
}

function writeTest(name, code) {
  return `pm.test('${name}', () => ${code})`
}

// The fields that a schema requires. Of several schemas: the fields that all of them require.
function listRequiredFields(schema) {
  if (schema.$ref)
    return listRequiredFields(
      schema.$ref
        .split('/')
        .slice(1)
        .reduce((node, key) => node[key], api),
    )
  const [first, ...others] = (schema.oneOf ?? []).map(listRequiredFields)
  if (!first) return schema.required ?? []
  return first.filter((key) => others.every((keys) => keys.includes(key)))
}

// flow.mjs writes a script as a function. Returns the lines between its braces.
function readLines(code) {
  if (!code) return []
  const lines = code.toString().split('\n').slice(1, -1)
  if (!lines.length) throw new Error(`flow.mjs: break the line after the first brace of: ${code}`)
  const indent = Math.min(...lines.filter((line) => line.trim()).map((line) => line.search(/\S/)))
  return lines.map((line) => line.slice(indent))
}

function buildScript(listen, exec) {
  return { listen, script: { type: 'text/javascript', exec } }
}

// Replaces each {content, type} by its content: Postman shows plain text as Markdown.
function replaceRichText(value) {
  if (Array.isArray(value)) return value.map(replaceRichText)
  if (value === null || typeof value !== 'object') return value
  if (typeof value.content === 'string') return value.content.trim()
  const entries = Object.entries(value).map(([key, inner]) => [key, replaceRichText(inner)])
  return Object.fromEntries(entries)
}
