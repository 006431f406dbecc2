// The requests of the collection, in the order in which *Run collection* sends them. Each is an
// operation of the OpenAPI document, in the folder of its tag. An operation may occur repeatedly.
//
//   operation                      the operationId
//   name                           default: the operation's summary
//   status                         the expected status; default: any 2xx status that the document lists
//   path, query, headers, form     values to send; a path parameter without a value here gets the
//                                  variable with its name
//   example, change                the body: the name of an example of the document, and the fields
//                                  to replace in it
//   before, after                  scripts: Postman runs the lines between the braces. In `after`,
//                                  `body` is the body of the response. make_collection.mjs adds the
//                                  checks that follow from the document.
//
// Jobs that run have the target `log`. The job that would call a URL is paused and never executed.

/* global pm, body */

export const DESCRIPTION = `Fill in \`password\` in the environment and send **Sign in**. Then send
single requests, or run the whole collection from top to bottom. It deletes its jobs at the end.

\`make postman\` generates this collection from the OpenAPI document and overwrites all changes.`

export const LAST_FOLDER = {
  name: 'Cleaning up',
  description: 'Delete the jobs and the schedule that the requests above created.',
}
const folder = LAST_FOLDER.name

// Values that a request stores for later requests.
export const VARIABLES = [
  'access_token',
  'idempotency_key',
  'job_id',
  'job_etag',
  'paused_job_id',
  'schedule_id',
  'slot',
  'execution_id',
  'waiting_execution_id',
  'range_start',
  'range_end',
]

const BACKFILL_RANGE = {
  overlap_policy: 'allow_all',
  schedule_id: '{{schedule_id}}',
  start: '{{range_start}}',
  end: '{{range_end}}',
}

export const STEPS = [
  {
    operation: 'sign_in',
    form: { grant_type: 'password', username: '{{username}}', password: '{{password}}' },
    before: () => {
      if (!pm.variables.get('password')) {
        throw new Error(
          'Set `password` in the environment. The service prints it at its first start.',
        )
      }
    },
    after: () => {
      if (!body.access_token) pm.execution.setNextRequest(null)
      pm.collectionVariables.set('access_token', body.access_token)
      pm.test('the token is a bearer token', () => pm.expect(body.token_type).to.equal('bearer'))
    },
  },

  {
    operation: 'create_job',
    example: 'cron',
    change: { target: { type: 'log' } },
    headers: { 'Idempotency-Key': '{{idempotency_key}}' },
    before: () => {
      pm.collectionVariables.set('idempotency_key', pm.variables.replaceIn('{{$guid}}'))
    },
    after: () => {
      pm.collectionVariables.set('job_id', body.id)
      pm.collectionVariables.set('job_etag', pm.response.headers.get('ETag'))
      pm.test('Location names the job', () => {
        pm.expect(pm.response.headers.get('Location')).to.match(new RegExp(`/jobs/${body.id}$`))
      })
      pm.test('the short form became a schedule', () =>
        pm.expect(body.schedules[0].type).to.equal('cron'),
      )
    },
  },
  {
    operation: 'create_job',
    name: 'Create a job: the same request again',
    example: 'cron',
    change: { target: { type: 'log' } },
    headers: { 'Idempotency-Key': '{{idempotency_key}}' },
    after: () => {
      pm.test('the first response is repeated, and there is no second job', () => {
        pm.expect(body.id).to.equal(pm.collectionVariables.get('job_id'))
        pm.expect(pm.response.headers.get('Idempotency-Replayed')).to.equal('true')
      })
    },
  },
  {
    operation: 'create_job',
    name: 'Create a paused job',
    example: 'http',
    change: { active: false },
    after: () => {
      pm.collectionVariables.set('paused_job_id', body.id)
      pm.test('the job is paused and has no next slot', () => {
        pm.expect(body.active).to.equal(false)
        pm.expect(body.next_run).to.equal(null)
      })
    },
  },
  {
    operation: 'list_jobs',
    query: { limit: '10', sort: '-created_at' },
    after: () => {
      pm.test('the page has the new job', () => {
        const ids = body.items.map((job) => job.id)
        pm.expect(ids).to.include(pm.collectionVariables.get('job_id'))
      })
      pm.test('its items have no parameters', () => {
        pm.expect(body.items[0].partial).to.equal(true)
        pm.expect(body.items[0]).to.not.have.property('parameters')
      })
    },
  },
  {
    operation: 'list_jobs',
    name: 'List jobs with all fields',
    query: { limit: '10', fields: 'full' },
    after: () => {
      pm.test('its items have parameters', () => {
        pm.expect(body.items[0]).to.not.have.property('partial')
        pm.expect(body.items[0]).to.have.property('parameters')
      })
    },
  },
  {
    operation: 'get_job',
    after: () => {
      pm.collectionVariables.set('job_etag', pm.response.headers.get('ETag'))
    },
  },
  {
    operation: 'get_job',
    name: 'Read a job: not modified',
    status: 304,
    headers: { 'If-None-Match': '{{job_etag}}' },
  },
  {
    operation: 'update_job',
    name: 'Edit a job (PUT)',
    example: 'fields',
    headers: { 'If-Match': '{{job_etag}}' },
    after: () => {
      pm.test('the response has the edited description', () =>
        pm.expect(body.description).to.equal('Sends the report'),
      )
    },
  },
  {
    operation: 'patch_job',
    name: 'Edit a job: somebody edited it before',
    status: 412,
    example: 'fields',
    headers: { 'If-Match': '{{job_etag}}' },
    after: () => {
      pm.test('the problem type says that the condition failed', () =>
        pm.expect(body.type).to.equal('urn:carillon:problem:precondition_failed'),
      )
    },
  },
  {
    operation: 'patch_job',
    name: 'Edit a job (PATCH)',
    example: 'fields',
    change: { description: 'Every Monday', tags: ['postman'] },
    after: () => {
      pm.test('the response has the edited tags', () => pm.expect(body.tags).to.eql(['postman']))
    },
  },
  {
    operation: 'deactivate_job',
    after: () => {
      pm.test('the job is paused', () => pm.expect(body.active).to.equal(false))
    },
  },
  {
    operation: 'activate_job',
    after: () => {
      pm.collectionVariables.set('job_etag', pm.response.headers.get('ETag'))
      pm.test('the job is active and has a next slot', () => {
        pm.expect(body.active).to.equal(true)
        pm.expect(body.next_run).to.be.a('string')
      })
    },
  },

  {
    operation: 'preview_schedule',
    example: 'cron',
    query: { count: '3' },
    after: () => {
      pm.test('the preview has three slots', () => pm.expect(body.next_runs).to.have.lengthOf(3))
    },
  },
  {
    operation: 'create_schedule',
    example: 'cron',
    after: () => {
      pm.collectionVariables.set('schedule_id', body.id)
      pm.test('the schedule belongs to the job', () =>
        pm.expect(body.job_id).to.equal(pm.collectionVariables.get('job_id')),
      )
    },
  },
  {
    operation: 'list_schedules',
    after: () => {
      pm.test('the page has the first and the new schedule', () => {
        pm.expect(body.items).to.have.lengthOf(2)
        pm.expect(body.items[1].id).to.equal(pm.collectionVariables.get('schedule_id'))
      })
    },
  },
  {
    operation: 'get_schedule',
    after: () => {
      pm.test('the time zone is the given one', () =>
        pm.expect(body.timezone).to.equal('Europe/Berlin'),
      )
    },
  },
  {
    operation: 'update_schedule',
    name: 'Edit a schedule (PUT)',
    example: 'bounds',
    after: () => {
      pm.test('the response has the edited jitter', () =>
        pm.expect(body.jitter_seconds).to.equal(30),
      )
    },
  },
  {
    operation: 'patch_schedule',
    name: 'Edit a schedule (PATCH)',
    example: 'pause',
    after: () => {
      pm.test('the schedule is paused', () => pm.expect(body.active).to.equal(false))
    },
  },
  {
    operation: 'list_next_runs',
    query: { count: '5' },
    after: () => {
      pm.collectionVariables.set('slot', body.next_runs[0].utc)
      pm.test('the response has five slots', () => pm.expect(body.next_runs).to.have.lengthOf(5))
    },
  },
  {
    operation: 'explain_instant',
    query: { at: '{{slot}}' },
    after: () => {
      pm.test('a schedule has this slot in the future', () => {
        pm.expect(body.items.map((item) => item.verdict)).to.include('pending')
      })
    },
  },

  {
    operation: 'execute_job',
    example: 'parameters',
    after: () => {
      pm.collectionVariables.set('execution_id', body.id)
      pm.test('the kind is manual', () => pm.expect(body.kind).to.equal('manual'))
    },
  },
  {
    operation: 'get_execution',
    name: 'Read an execution until it is finished',
    after: () => {
      const waited = Date.now() - Date.parse(body.created_at)
      if (['queued', 'running'].includes(body.status) && waited < 30000) {
        pm.execution.setNextRequest(pm.info.requestId)
        setTimeout(() => {}, 200)
      } else {
        pm.test('the execution succeeded at the first attempt', () => {
          pm.expect(body.status).to.equal('succeeded')
          pm.expect(body.attempts).to.have.lengthOf(1)
        })
      }
    },
  },
  {
    operation: 'retry_execution',
    example: 'the_same',
    after: () => {
      pm.test('retry_of is the first execution', () => {
        pm.expect(body.retry_of).to.equal(pm.collectionVariables.get('execution_id'))
      })
    },
  },
  {
    operation: 'backfill_job',
    name: 'List the slots of a past range',
    status: 200,
    example: 'dry_run',
    change: BACKFILL_RANGE,
    before: () => {
      const ago = (days) => new Date(Date.now() - days * 86400000).toISOString()
      pm.collectionVariables.set('range_start', ago(200))
      pm.collectionVariables.set('range_end', ago(1))
    },
    after: () => {
      pm.test('there is a slot for each weekday', () => pm.expect(body.count).to.be.above(100))
    },
  },
  {
    operation: 'backfill_job',
    status: 202,
    example: 'dry_run',
    change: { ...BACKFILL_RANGE, dry_run: false },
    after: () => {
      pm.test('the backfill has an id', () => pm.expect(body.backfill_id).to.be.a('string'))
    },
  },
  {
    operation: 'list_job_executions',
    query: { limit: '5', kind: 'backfill' },
    after: () => {
      // Ten executions start per second, in the order of their slots. The newest slot is the
      // last one, so its execution still waits for some seconds.
      pm.collectionVariables.set('waiting_execution_id', body.items[0].id)
      pm.test('the page has five executions and a cursor', () => {
        pm.expect(body.items).to.have.lengthOf(5)
        pm.expect(body.next_cursor).to.be.a('string')
      })
    },
  },
  {
    operation: 'cancel_execution',
    status: 200,
    path: { execution_id: '{{waiting_execution_id}}' },
    after: () => {
      pm.test('the execution is cancelled', () => pm.expect(body.status).to.equal('cancelled'))
    },
  },
  {
    operation: 'list_executions',
    query: { limit: '10', job_id: '{{job_id}}', kind: 'manual' },
    after: () => {
      pm.test('the first item is the manual execution', () => {
        pm.expect(body.items[0].id).to.equal(pm.collectionVariables.get('execution_id'))
      })
    },
  },

  { operation: 'ping' },
  { operation: 'live' },
  { operation: 'ready', status: 200 },

  { operation: 'delete_schedule', folder },
  { operation: 'get_schedule', folder, name: 'Read a schedule: not found', status: 404 },
  {
    operation: 'delete_job',
    folder,
    name: 'Delete the paused job',
    path: { job_id: '{{paused_job_id}}' },
  },
  {
    operation: 'get_job',
    folder,
    name: 'Read a job before its deletion',
    after: () => {
      pm.collectionVariables.set('job_etag', pm.response.headers.get('ETag'))
    },
  },
  { operation: 'delete_job', folder, headers: { 'If-Match': '{{job_etag}}' } },
  { operation: 'get_job', folder, name: 'Read a job: not found', status: 404 },
]
