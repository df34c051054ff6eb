/* The interface definitions that introspection gives out. https://varlink.org/Interface-Definition */

/** What the executor's sockets speak; wire-executor.ts checks it. */
export const EXECUTOR_IDL = `# Runs signed execution plans, one at a time, after checking everything again.
interface io.aegis.Executor

# Who called, as the kernel told the front. What a client says here is overwritten.
type Caller (uid: int, gid: int, pid: int)

# How an execution stands or ended. "command" is what was run, shortened, and "actor" who signed that.
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

# One step of an execution. The last one is "finished" and has the outcome; "alive" only says that the rest will follow.
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

# What the front turned away, counted. The digest is there when all that was counted had the same one.
type Refusal (
  code: string,
  count: int,
  uid: int,
  request_sha256: ?string,
  execution_id: ?string
)

# Submits an execution plan: its canonical JSON as one string. With "more" every event is sent, without it the last one.
method Apply(plan: string, caller: ?Caller) -> (event: Event)

# The events of an execution that runs, or the end of one that has run.
method Watch(execution_id: string, caller: ?Caller) -> (event: Event)

# What runs, what waits, what ran last.
method Status(caller: ?Caller) -> (running: ?string, queued: []string, recent: []Outcome)

# From the front to the runner only.
method Report(refusals: []Refusal) -> ()

# The call was refused. The codes and what to do about them stand in the README.
error Refused (code: string, message: string, hint: string, details: object)
`;

/** What the reviewer's socket speaks; wire-reviewer.ts checks it. */
export const REVIEWER_IDL = `# Asks the local model about plans. What it says can only make the decision about a plan stricter.
interface io.aegis.Reviewer

# One step of a review. The last one is "finished" and has the review; "alive" only says that the rest will follow.
# "place" counts from 1; "estimate_s" is how many seconds the model is given. The reply is the raw answer of the model's
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
# the last one. Who asks about a plan that is being reviewed already gets the same review.
method Review(plan: string) -> (event: Event)

# Which model is asked, what signs the reviews, and how many plans are at the model or wait for it.
method Status() -> (model: string, public_key_hex: string, asking: int, waiting: int)

# The call was refused, or the model gave no review. The codes and what to do about them stand in the README.
error Refused (code: string, message: string, hint: string, details: object)
`;

/** The definition of org.varlink.service, as the specification gives it. */
export const SERVICE_IDL = `# Every varlink service describes itself with this interface.
interface org.varlink.service

# Who made the service and which interfaces it has.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# The definition of one interface.
method GetInterfaceDescription(interface: string) -> (description: string)

# There is no such interface here.
error InterfaceNotFound (interface: string)

# The interface has no such method.
error MethodNotFound (method: string)

# The interface has the method, this service does not offer it.
error MethodNotImplemented (method: string)

# A parameter is missing, unknown or of the wrong type.
error InvalidParameter (parameter: string)
`;
