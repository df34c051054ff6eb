import type { Rule } from "./policy-rule.ts";
import { APT_DENIED, APT_SENSITIVE } from "./policy-rules-apt.ts";
import { CONTENT_DENIED, CONTENT_RUNS_CODE, VULNERABILITY_GRAVE } from "./policy-rules-content.ts";
import { OPERATIONS, UNDECIDED } from "./policy-rules-operation.ts";
import { REPOSITORY_DENIED, REPOSITORY_SENSITIVE } from "./policy-rules-repository.ts";
import { METADATA_MISSING, REQUEST_DENIED } from "./policy-rules-request.ts";
import { REVIEW } from "./policy-rules-review.ts";
import { RESTARTS_DENIED, RESTARTS_RISKY } from "./policy-rules-services.ts";

/**
 * Every rule, in the order in which reasons are reported. All are evaluated, and the strictest decision wins. A new rule is
 * one row in the list of its subject.
 */
export const RULES: readonly Rule[] = [
  ...REQUEST_DENIED,
  ...APT_DENIED,
  ...REPOSITORY_DENIED,
  ...CONTENT_DENIED,
  RESTARTS_DENIED,
  ...APT_SENSITIVE,
  ...REPOSITORY_SENSITIVE,
  ...CONTENT_RUNS_CODE,
  RESTARTS_RISKY,
  METADATA_MISSING,
  VULNERABILITY_GRAVE,
  ...OPERATIONS,
  UNDECIDED,
  ...REVIEW,
];
