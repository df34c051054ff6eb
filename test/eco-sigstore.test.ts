import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { trustedRoot, verifyAttestation } from "../src/eco-sigstore.ts";
import { SIGSTORE_ROOT } from "../src/eco-sigstore-root.ts";
import { refuses } from "./signing-kit.ts";

/*
 * What vouches for attestations: a root's file in place of the one in the program. The attestation is a recorded one, of a build.
 */

const RECORDED = join(import.meta.dir, "fixtures/npm/attested/gundam-visor-cli-v1-tag.tgz.json");
const BUNDLE: unknown = JSON.parse(readFileSync(RECORDED, "utf8")).attestations[1].bundle;
const root = (change: object) => JSON.stringify({ ...SIGSTORE_ROOT, ...change });

test("by the program's own root, and by the same one in a file", () => {
  for (const text of [null, root({})])
    expect(verifyAttestation(BUNDLE, new Map(), () => text).identity?.issuer).toContain("actions");
});

test.each([
  [
    "without the authority that certified the build",
    { certificateAuthorities: SIGSTORE_ROOT.certificateAuthorities.slice(0, 1) },
  ],
  ["without the log that has it", { tlogs: SIGSTORE_ROOT.tlogs.slice(1) }],
])("by a root %s: not verified, though the program's own would", async (_, change) => {
  await refuses(() => verifyAttestation(BUNDLE, new Map(), () => root(change)), "signature_invalid");
});

test.each([
  ["nothing", ""],
  ["no JSON", "{"],
  ["another document", '{"keys":[]}'],
  ["without authorities", root({ certificateAuthorities: [] })],
  ["without logs", root({ tlogs: [] })],
  [
    "with a key that is none",
    root({ tlogs: [{ ...SIGSTORE_ROOT.tlogs[0], publicKey: { rawBytes: "AAAA" } }] }),
  ],
])("a file that is no trusted root: %s", async (_, text) => {
  await refuses(
    () => trustedRoot(text),
    "invalid_config",
    "/etc/aegis/sigstore-trusted-root.json is no trusted root",
  );
  await refuses(() => verifyAttestation(BUNDLE, new Map(), () => text), "invalid_config");
});
