import { repositoryArgv, repositoryPath } from "../src/apt-repository-argv.ts";
import { canonicalRepository, readRepository, repositoryText } from "../src/apt-repository-file.ts";
import { sha256Hex } from "../src/canonical.ts";
import type { Decision } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import type { ConfiguredRepository } from "../src/doc-repository.ts";
import { fixture } from "./apt-kit.ts";
import { command, DEBIAN, entry, install, rollback, undoing, update, upgrade } from "./policy-plans.ts";

/*
 * Plans that add, replace and remove a repository, and the cases of the rules about them.
 */

export const STANZA = "Types: deb\nURIs: https://vendor.example/debian\nSuites: stable\nComponents: main\n";

/** The file that Aegis writes for a stanza and one of the keys of test/fixtures/apt/keys/repository. */
export function vendorFile(key = "ed25519", stanza = STANZA, name = "vendor"): string {
  return repositoryText(name, readRepository(stanza, Buffer.from(fixture(`keys/repository/${key}.asc`))));
}

export function configured(
  before: string | null,
  after: string | null,
  name = "vendor",
): ConfiguredRepository {
  const keyIn = (text: string | null) =>
    text === null ? null : (canonicalRepository(name, text)?.key.key ?? null);
  return {
    ...{ name, path: repositoryPath(name), before, after },
    before_sha256: before === null ? null : sha256Hex(before),
    after_sha256: after === null ? null : sha256Hex(after),
    key: keyIn(after),
    previous_key: keyIn(before),
  };
}

export const VENDOR: OperationPlan["repository_evidence"][number] = {
  ...DEBIAN,
  id: "https://vendor.example/debian stable",
  uri: "https://vendor.example/debian",
  suite: "stable",
  configured_in: `${repositoryPath("vendor")} stanza 1`,
  signed_by: "embedded",
  transport: "https",
  release_origin: "Vendor",
  release_label: "Vendor",
  key_fingerprints: ["8F0814313638E86483C5C178AF2DB912AF39821F"],
  trust: "pinned",
};
const UNSIGNED = {
  ...VENDOR,
  signature_verified: false,
  key_fingerprints: [],
  trust: "untrusted" as const,
  problems: ["no good signature by a key it is bound to"],
};

/** A plan of a change to a repository's file. */
function plan(
  operation: string,
  repository: ConfiguredRepository,
  over: Partial<OperationPlan> = {},
): OperationPlan {
  return {
    ...update(),
    operation,
    target_type: "repository",
    target: "vendor",
    targets: ["vendor"],
    exact_targets: ["vendor"],
    command_preview: repositoryArgv(repository),
    repository,
    repository_evidence: [VENDOR],
    raw_evidence: { commands: [command("apt-config", "dump")] },
    ...over,
  };
}

export const adding = (over: Partial<OperationPlan> = {}, file = vendorFile()): OperationPlan =>
  plan("add-repository", configured(null, file), over);
export const replacing = (before: string, over: Partial<OperationPlan> = {}): OperationPlan =>
  plan("add-repository", configured(before, vendorFile()), over);
export const removing = (over: Partial<OperationPlan> = {}): OperationPlan =>
  plan("remove-repository", configured(vendorFile(), null), over);
const undone = (repository: ConfiguredRepository): OperationPlan => ({
  ...rollback([]),
  ...undoing(repository.path),
  command_preview: repositoryArgv(repository),
  exact_targets: [],
  repository,
});
const forged = (change: Partial<ConfiguredRepository>, argv?: string[]): OperationPlan => {
  const repository = { ...configured(null, vendorFile()), ...change };
  return adding({ repository, command_preview: argv ?? repositoryArgv(repository) });
};
/** A file with this line in it, and everything else said of it truly. */
const withLine = (line: string) => {
  const file = vendorFile().replace("Components:", `${line}\nComponents:`);
  return adding({}, file);
};

interface Case {
  what: string;
  plan: OperationPlan;
}

export const REPOSITORY_CASES: Readonly<Record<string, { decision: Decision; fires: Case[]; not: Case[] }>> =
  {
    "apt-repository-form": {
      decision: "deny",
      fires: [
        { what: "Trusted: yes slipped into the file", plan: withLine("Trusted: yes") },
        { what: "an unknown field", plan: withLine("X-Foo: bar") },
        { what: "a comment", plan: withLine("# hello") },
        { what: "a key elsewhere", plan: adding({}, `${STANZA}Signed-By: /tmp/key.gpg\n`) },
        { what: "another digest", plan: forged({ after_sha256: "0".repeat(64) }) },
        { what: "another path", plan: forged({ path: "/etc/apt/apt.conf.d/99evil" }) },
        { what: "another name", plan: forged({ name: "other", path: repositoryPath("other") }) },
        {
          what: "another key than the file's",
          plan: forged({ key: configured(null, vendorFile("rsa2048")).key }),
        },
        { what: "no key", plan: forged({ key: null }) },
        { what: "another command", plan: forged({}, ["apt-get", "update"]) },
        {
          what: "no file",
          plan: forged({ after: null, key: null, after_sha256: null }, ["aegis", "repository"]),
        },
        {
          what: "nothing at all",
          plan: { ...update(), operation: "add-repository", target: "vendor", targets: ["vendor"] },
        },
        {
          what: "a removal that leaves a file",
          plan: { ...replacing(vendorFile("rsa2048")), operation: "remove-repository" },
        },
        { what: "packages change too", plan: adding({ transaction: [entry("hello")] }) },
        {
          what: "an upgrade with a repository",
          plan: upgrade({ repository: configured(null, vendorFile()) }),
        },
        {
          what: "an install that is said to be nothing",
          plan: install({ nothing_to_do: true, transaction: [], repository: configured(null, vendorFile()) }),
        },
      ],
      not: [
        { what: "added", plan: adding() },
        { what: "replaced", plan: replacing(vendorFile("rsa2048")) },
        { what: "a file of another hand replaced", plan: replacing(`${STANZA}Trusted: yes\n`) },
        { what: "removed", plan: removing() },
        {
          what: "a rollback that brings back a file of another hand",
          plan: undone(configured(vendorFile(), STANZA)),
        },
        {
          what: "nothing to remove",
          plan: {
            ...update(),
            operation: "remove-repository",
            nothing_to_do: true,
            target: "vendor",
            targets: ["vendor"],
          },
        },
        { what: "an update", plan: update() },
      ],
    },
    "apt-repository-key": {
      decision: "deny",
      fires: [
        { what: "expired", plan: adding({}, vendorFile("rsa1024-expired")) },
        { what: "revoked", plan: adding({}, vendorFile("revoked")) },
      ],
      not: [
        { what: "a good one", plan: adding() },
        {
          what: "not expired yet",
          plan: adding({ created_at: "2024-12-30T23:59:59.000Z" }, vendorFile("rsa1024-expired")),
        },
        { what: "removed", plan: removing() },
      ],
    },
    "apt-repository-unverified": {
      decision: "deny",
      fires: [
        { what: "signed by another key", plan: adding({ repository_evidence: [UNSIGNED] }) },
        { what: "one of two", plan: adding({ repository_evidence: [VENDOR, UNSIGNED] }) },
        {
          what: "trusted by its own word only",
          plan: adding({ repository_evidence: [{ ...VENDOR, signature_verified: false }] }),
        },
      ],
      not: [
        { what: "signed", plan: adding() },
        {
          what: "not fetched",
          plan: adding({ repository_evidence: [{ ...UNSIGNED, release_sha256: null }] }),
        },
        { what: "a removal", plan: removing({ repository_evidence: [UNSIGNED] }) },
      ],
    },
    "apt-repository-unseen": {
      decision: "require_human",
      fires: [
        {
          what: "not fetched",
          plan: adding({ repository_evidence: [{ ...UNSIGNED, release_sha256: null }] }),
        },
      ],
      not: [
        { what: "fetched", plan: adding() },
        {
          what: "a removal",
          plan: removing({ repository_evidence: [{ ...UNSIGNED, release_sha256: null }] }),
        },
      ],
    },
    "apt-repository-plain-http": {
      decision: "require_human",
      fires: [{ what: "http", plan: adding({ repository_evidence: [{ ...VENDOR, transport: "http" }] }) }],
      not: [{ what: "https", plan: adding() }],
    },
    "apt-repository-impersonates": {
      decision: "require_human",
      fires: [
        {
          what: "Origin: Debian",
          plan: adding({ repository_evidence: [{ ...VENDOR, release_origin: "Debian" }] }),
        },
        {
          what: "Label: ubuntu",
          plan: adding({ repository_evidence: [{ ...VENDOR, release_label: "ubuntu updates" }] }),
        },
      ],
      not: [
        { what: "its own name", plan: adding() },
        {
          what: "signed by the distribution's key",
          plan: adding({
            repository_evidence: [{ ...VENDOR, release_origin: "Debian", trust: "distribution" }],
          }),
        },
      ],
    },
    "apt-repository-key-changes": {
      decision: "require_human",
      fires: [
        { what: "another key", plan: replacing(vendorFile("rsa2048")) },
        { what: "a file of another hand", plan: replacing(`${STANZA}Signed-By: /etc/apt/keyrings/v.gpg\n`) },
      ],
      not: [
        { what: "the same key", plan: replacing(vendorFile("ed25519", STANZA.replace("stable", "testing"))) },
        { what: "a new file", plan: adding() },
        { what: "a removal", plan: removing() },
      ],
    },
    "apt-repository-key-weak": {
      decision: "require_human",
      fires: [
        { what: "DSA with SHA-1", plan: adding({}, vendorFile("dsa1024-sha1")) },
        { what: "RSA of 1024 bits", plan: adding({}, vendorFile("rsa1024-expired")) },
      ],
      not: [{ what: "Ed25519", plan: adding() }],
    },
    "apt-add-repository": {
      decision: "require_human",
      fires: [
        { what: "added", plan: adding() },
        { what: "said to be nothing", plan: adding({ nothing_to_do: true }) },
      ],
      not: [
        { what: "removed", plan: removing() },
        {
          what: "already there",
          plan: {
            ...update(),
            operation: "add-repository",
            nothing_to_do: true,
            target: "vendor",
            targets: ["vendor"],
          },
        },
      ],
    },
    "apt-remove-repository": {
      decision: "require_human",
      fires: [
        { what: "removed", plan: removing() },
        { what: "said to be nothing", plan: removing({ nothing_to_do: true }) },
      ],
      not: [{ what: "added", plan: adding() }],
    },
  };
