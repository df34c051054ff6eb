import type { TransactionEntry } from "./operation-plan.ts";

/** Kind of the evidence in a rollback's plan: each subject is one change that the executor's own record asks for. */
export const RECORDED_INVERSE = "apt-recorded-inverse";

/** What has to become of a package: `name:arch=version` to be there again, `name:arch-` to be gone. */
export function undoSubject(name: string, architecture: string, version: string | null): string {
  return `${name}:${architecture}${version === null ? "-" : `=${version}`}`;
}

/** What an entry of a transaction makes of its package, in the same words. */
export function madeSubject({ name, architecture, to_version }: TransactionEntry): string {
  return undoSubject(name.replace(/:.*$/, ""), architecture, to_version);
}
