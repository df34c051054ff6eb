/* Interface definitions returned by introspection. https://varlink.org/Interface-Definition */

/** The interface of the executor's sockets; wire-executor.ts checks it. */
export const EXECUTOR_IDL = `# Runs signed execution plans, one at a time, after repeating every check.
interface io.aegis.Executor

# The caller, as the kernel reported it to the front. A value sent by a client is overwritten.
type Caller (uid: int, gid: int, pid: int)

# The state of an execution. "command" is the command run, shortened; "actor" is who signed the plan.
type Outcome (
  execution_id: string,
  state: (running, completed, failed, interrupted),
  exit_status: ?int,
  code: ?string,
  message: ?string,
  command: ?string,
  actor: ?string,
  started_at: string,
  ended_at: ?string
)

# One step of an execution. The last is "finished" and has the outcome; "alive" only keeps the connection alive.
type Event (
  execution_id: string,
  kind: (queued, checking, started, progress, output, alive, finished),
  place: ?int,
  percent: ?int,
  message: ?string,
  stream: ?string,
  data: ?string,
  outcome: ?Outcome
)

# Requests the front refused, counted. The digest is present if it was the same for all of them.
type Refusal (
  code: string,
  count: int,
  uid: int,
  request_sha256: ?string,
  execution_id: ?string
)

# The documents of a request: canonical JSON, one string each.
type Documents (operation_plan: string, policy_result: string, review: ?string, approvals: []string)

# One step of a call that changes a request. "proof" names a pipe in /run/aegis/proof that belongs to the caller: the caller
# writes into it, within ten seconds, the SHA-256 in hex of the canonical JSON of {method, parameters, proof}, where the
# parameters are those it sent, without null members. "done" is the last and has the request's members.
type RequestEvent (kind: (proof, alive, done), proof: ?string, request: ?object)

# The state of a request. A watch begins with "state" for each request, or "none" for one that isn't there, and "current";
# after that "state" says what has changed.
type RequestChange (kind: (state, none, current, alive), number: ?int, revision: ?int, state: ?string)

# Submits an execution plan: its canonical JSON as one string. With "more" every event is sent, without it the last one.
method Apply(plan: string, caller: ?Caller) -> (event: Event)

# The events of a running execution, or the last event of a finished one.
method Watch(execution_id: string, caller: ?Caller) -> (event: Event)

# The running, queued and most recent executions.
method Status(caller: ?Caller) -> (running: ?string, queued: []string, recent: []Outcome)

# Asks for a change that a person has to approve. Needs "more".
method Submit(
  operation_plan: string,
  policy_result: string,
  review: ?string,
  reason: string,
  caller: ?Caller
) -> (event: RequestEvent)

# The requests that wait, with "all" also those that ended, newest first; or one, with its documents while it waits.
method Requests(number: ?int, all: ?bool, caller: ?Caller) -> (requests: []object, left_out: int, documents: ?Documents)

# Hands over an approval or a rejection, both signed. An approver who has planned again hands over that plan too.
# "request_hash" says what the approver was shown: the SHA-256 of the canonical JSON of the request's number, submitted_at,
# expires_at, uid, user, reason, tool, ecosystem, operation, targets, targets_left_out and asked_plan_hash. Needs "more".
method Decide(
  number: int,
  request_hash: string,
  approval: ?string,
  rejection: ?string,
  operation_plan: ?string,
  policy_result: ?string,
  review: ?string,
  caller: ?Caller
) -> (event: RequestEvent)

# Ends an own request. Needs "more".
method Withdraw(number: int, reason: ?string, caller: ?Caller) -> (event: RequestEvent)

# The states of requests, and every change of them. Needs "more".
method WatchRequests(number: ?int, caller: ?Caller) -> (event: RequestChange)

# From the front to the runner only.
method Report(refusals: []Refusal) -> ()

# The call was refused. aegis help exit-status lists the codes.
error Refused (code: string, message: string, hint: string, details: object)
`;

/** The interface of the reviewer's socket; wire-reviewer.ts checks it. */
export const REVIEWER_IDL = `# Has the local model review plans. A review can only make the decision about a plan stricter.
interface io.aegis.Reviewer

# One step of a review. The last is "finished" and has the review; "alive" only keeps the connection alive.
# "place" counts from 1; "estimate_s" is the time allowed for the model, in seconds. "reply" is the raw reply of the model's
# server.
type Event (
  kind: (waiting, asking, alive, finished),
  place: ?int,
  elapsed_s: ?int,
  estimate_s: ?int,
  review: ?string,
  reply: ?string
)

# Reviews a plan: its canonical JSON as one string, as is the signed review. With "more" every event is sent, without it
# the last one. A second request for a plan already being reviewed gets the same review.
method Review(plan: string) -> (event: Event)

# The model used, the key that signs the reviews, and the number of plans at the model and waiting for it.
method Status() -> (model: string, public_key_hex: string, asking: int, waiting: int)

# The call was refused, or the model gave no review. aegis help exit-status lists the codes.
error Refused (code: string, message: string, hint: string, details: object)
`;

/** The definition of org.varlink.service, as the specification gives it. */
export const SERVICE_IDL = `# Every varlink service describes itself with this interface.
interface org.varlink.service

# Vendor and version of the service, and its interfaces.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# The definition of one interface.
method GetInterfaceDescription(interface: string) -> (description: string)

# The service has no interface of that name.
error InterfaceNotFound (interface: string)

# The interface has no method of that name.
error MethodNotFound (method: string)

# The interface has the method, but this service does not implement it.
error MethodNotImplemented (method: string)

# A parameter is missing, unknown or of the wrong type.
error InvalidParameter (parameter: string)
`;
