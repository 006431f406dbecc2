// The requests of the collection, in the order in which a whole run sends them. Each is an
// operation of the OpenAPI document, in the folder of its tag; one may come several times.
//
//   name                           if it is not the operation's summary
//   status                         if it is not just any success of the document
//   path, query, headers, form     what is sent; a path takes the variable of its parameter's name
//   example, change                the body: an example of the document, and what to alter in it
//   before, after                  scripts; what is between the braces runs in Postman, where
//                                  `answer` is the body. Checks of what the document promises of
//                                  an answer are added to each.
//
// What runs has the target `log`. The job that would call a URL is paused, and nothing runs it.

/* global pm, answer */

export const DESCRIPTION = `Fill in \`password\` in the environment, send **Sign in**, then what you like; or run
the whole collection from top to bottom, which deletes at the end what it made.

Made from the OpenAPI document by \`make postman\`; edits made here are lost.`

export const LAST_FOLDER = {
  name: 'Cleaning up',
  description: 'Delete what the requests above made.',
}
const folder = LAST_FOLDER.name

// What one request keeps for the ones after it.
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

const PAST = {
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
          'The environment has no password yet; the first start of the service shows it.',
        )
      }
    },
    after: () => {
      if (!answer.access_token) pm.execution.setNextRequest(null)
      pm.collectionVariables.set('access_token', answer.access_token)
      pm.test('a bearer token', () => pm.expect(answer.token_type).to.equal('bearer'))
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
      pm.collectionVariables.set('job_id', answer.id)
      pm.collectionVariables.set('job_etag', pm.response.headers.get('ETag'))
      pm.test('its place', () => {
        pm.expect(pm.response.headers.get('Location')).to.match(new RegExp(`/jobs/${answer.id}$`))
      })
      pm.test('the short form became a schedule', () =>
        pm.expect(answer.schedules[0].type).to.equal('cron'),
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
      pm.test('the first answer again, and no second job', () => {
        pm.expect(answer.id).to.equal(pm.collectionVariables.get('job_id'))
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
      pm.collectionVariables.set('paused_job_id', answer.id)
      pm.test('paused', () => {
        pm.expect(answer.active).to.equal(false)
        pm.expect(answer.next_run).to.equal(null)
      })
    },
  },
  {
    operation: 'list_jobs',
    query: { limit: '10', sort: '-created_at' },
    after: () => {
      pm.test('the new job is there', () => {
        const ids = answer.items.map((job) => job.id)
        pm.expect(ids).to.include(pm.collectionVariables.get('job_id'))
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
    name: 'Read a job: nothing new',
    status: 304,
    headers: { 'If-None-Match': '{{job_etag}}' },
  },
  {
    operation: 'update_job',
    name: 'Edit a job (PUT)',
    example: 'fields',
    headers: { 'If-Match': '{{job_etag}}' },
    after: () => {
      pm.test('edited', () => pm.expect(answer.description).to.equal('Sends the report'))
    },
  },
  {
    operation: 'patch_job',
    name: 'Edit a job: somebody was faster',
    status: 412,
    example: 'fields',
    headers: { 'If-Match': '{{job_etag}}' },
    after: () => {
      pm.test('its kind', () =>
        pm.expect(answer.type).to.equal('urn:carillon:problem:precondition_failed'),
      )
    },
  },
  {
    operation: 'patch_job',
    name: 'Edit a job (PATCH)',
    example: 'fields',
    change: { description: 'Every Monday', tags: ['postman'] },
    after: () => {
      pm.test('edited', () => pm.expect(answer.tags).to.eql(['postman']))
    },
  },
  {
    operation: 'deactivate_job',
    after: () => {
      pm.test('paused', () => pm.expect(answer.active).to.equal(false))
    },
  },
  {
    operation: 'activate_job',
    after: () => {
      pm.collectionVariables.set('job_etag', pm.response.headers.get('ETag'))
      pm.test('due again', () => {
        pm.expect(answer.active).to.equal(true)
        pm.expect(answer.next_run).to.be.a('string')
      })
    },
  },

  {
    operation: 'preview_schedule',
    example: 'cron',
    query: { count: '3' },
    after: () => {
      pm.test('three slots', () => pm.expect(answer.next_runs).to.have.lengthOf(3))
    },
  },
  {
    operation: 'create_schedule',
    example: 'cron',
    after: () => {
      pm.collectionVariables.set('schedule_id', answer.id)
      pm.test('of this job', () =>
        pm.expect(answer.job_id).to.equal(pm.collectionVariables.get('job_id')),
      )
    },
  },
  {
    operation: 'list_schedules',
    after: () => {
      pm.test('the first one and the new one', () => {
        pm.expect(answer.items).to.have.lengthOf(2)
        pm.expect(answer.items[1].id).to.equal(pm.collectionVariables.get('schedule_id'))
      })
    },
  },
  {
    operation: 'get_schedule',
    after: () => {
      pm.test('as it was made', () => pm.expect(answer.timezone).to.equal('Europe/Berlin'))
    },
  },
  {
    operation: 'update_schedule',
    name: 'Edit a schedule (PUT)',
    example: 'bounds',
    after: () => {
      pm.test('edited', () => pm.expect(answer.jitter_seconds).to.equal(30))
    },
  },
  {
    operation: 'patch_schedule',
    name: 'Edit a schedule (PATCH)',
    example: 'pause',
    after: () => {
      pm.test('paused', () => pm.expect(answer.active).to.equal(false))
    },
  },
  {
    operation: 'list_next_runs',
    query: { count: '5' },
    after: () => {
      pm.collectionVariables.set('slot', answer.next_runs[0].utc)
      pm.test('five slots', () => pm.expect(answer.next_runs).to.have.lengthOf(5))
    },
  },
  {
    operation: 'explain_instant',
    query: { at: '{{slot}}' },
    after: () => {
      pm.test('one of them is to come', () => {
        pm.expect(answer.items.map((one) => one.verdict)).to.include('pending')
      })
    },
  },

  {
    operation: 'execute_job',
    example: 'parameters',
    after: () => {
      pm.collectionVariables.set('execution_id', answer.id)
      pm.test('asked for', () => pm.expect(answer.kind).to.equal('manual'))
    },
  },
  {
    operation: 'get_execution',
    name: 'Read an execution until it has ended',
    after: () => {
      const waited = Date.now() - Date.parse(answer.created_at)
      if (['queued', 'running'].includes(answer.status) && waited < 30000) {
        pm.execution.setNextRequest(pm.info.requestId)
        setTimeout(() => {}, 200)
      } else {
        pm.test('succeeded', () => {
          pm.expect(answer.status).to.equal('succeeded')
          pm.expect(answer.attempts).to.have.lengthOf(1)
        })
      }
    },
  },
  {
    operation: 'retry_execution',
    example: 'the_same',
    after: () => {
      pm.test('linked to the first', () => {
        pm.expect(answer.retry_of).to.equal(pm.collectionVariables.get('execution_id'))
      })
    },
  },
  {
    operation: 'backfill_job',
    name: 'Which slots a past range has',
    status: 200,
    example: 'dry_run',
    change: PAST,
    before: () => {
      const ago = (days) => new Date(Date.now() - days * 86400000).toISOString()
      pm.collectionVariables.set('range_start', ago(200))
      pm.collectionVariables.set('range_end', ago(1))
    },
    after: () => {
      pm.test('a slot for each weekday', () => pm.expect(answer.count).to.be.above(100))
    },
  },
  {
    operation: 'backfill_job',
    status: 202,
    example: 'dry_run',
    change: { ...PAST, dry_run: false },
    after: () => {
      pm.test('queued', () => pm.expect(answer.backfill_id).to.be.a('string'))
    },
  },
  {
    operation: 'list_job_executions',
    query: { limit: '5', kind: 'backfill' },
    after: () => {
      // Ten a second are run, the newest slot last: it waits for some seconds yet.
      pm.collectionVariables.set('waiting_execution_id', answer.items[0].id)
      pm.test('a page, and more', () => {
        pm.expect(answer.items).to.have.lengthOf(5)
        pm.expect(answer.next_cursor).to.be.a('string')
      })
    },
  },
  {
    operation: 'cancel_execution',
    status: 200,
    path: { execution_id: '{{waiting_execution_id}}' },
    after: () => {
      pm.test('cancelled', () => pm.expect(answer.status).to.equal('cancelled'))
    },
  },
  {
    operation: 'list_executions',
    query: { limit: '10', job_id: '{{job_id}}', kind: 'manual' },
    after: () => {
      pm.test('the one that was asked for', () => {
        pm.expect(answer.items[0].id).to.equal(pm.collectionVariables.get('execution_id'))
      })
    },
  },

  { operation: 'ping' },
  { operation: 'live' },
  { operation: 'ready', status: 200 },

  { operation: 'delete_schedule', folder },
  { operation: 'get_schedule', folder, name: 'Read a schedule: it is gone', status: 404 },
  {
    operation: 'delete_job',
    folder,
    name: 'Delete the paused job',
    path: { job_id: '{{paused_job_id}}' },
  },
  {
    operation: 'get_job',
    folder,
    name: 'Read a job before the delete',
    after: () => {
      pm.collectionVariables.set('job_etag', pm.response.headers.get('ETag'))
    },
  },
  { operation: 'delete_job', folder, headers: { 'If-Match': '{{job_etag}}' } },
  { operation: 'get_job', folder, name: 'Read a job: it is gone', status: 404 },
]
