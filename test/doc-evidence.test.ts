import { describe, expect, test } from "bun:test";
import { isSecurityUpdate } from "../src/doc-evidence.ts";
import type { RepositoryEvidence } from "../src/doc-plan-evidence.ts";
import { DEBIAN, entry, WEAK } from "./policy-plans.ts";

describe("security pockets", () => {
  // As in the Release files of bookworm-security (2026) and noble-security.
  const POCKET: RepositoryEvidence = {
    ...DEBIAN,
    ...{ release_origin: "Debian", release_label: "Debian-Security", release_suite: "oldstable-security" },
  };
  const UBUNTU = {
    ...POCKET,
    release_origin: "Ubuntu",
    release_label: "Ubuntu",
    release_suite: "noble-security",
  };
  const rows: [what: string, source: RepositoryEvidence, expected: boolean][] = [
    ["Debian's", POCKET, true],
    ["Ubuntu's", UBUNTU, true],
    ["another key's Release file says so", { ...POCKET, trust: "pinned" }, false],
    ["a weakly bound one says so", { ...WEAK, release_suite: "stable-security" }, false],
    ["unsigned", { ...POCKET, signature_verified: false }, false],
    ["trusted=yes", { ...POCKET, trusted_option: true }, false],
    ["allow-insecure", { ...POCKET, allow_insecure: true }, false],
    ["a problem, so untrusted", { ...POCKET, trust: "untrusted" }, false],
    ["Debian's main archive", { ...POCKET, release_label: "Debian", release_suite: "oldstable" }, false],
    ["only configured as one", { ...POCKET, suite: "bookworm-security", release_suite: "oldstable" }, false],
    ["Debian's key, another label", { ...POCKET, release_label: "Debian" }, false],
    ["updates", { ...UBUNTU, release_suite: "noble-updates" }, false],
    ["no suite", { ...POCKET, release_suite: null }, false],
  ];
  test.each(rows)("%s", (_what, source, expected) => {
    expect(isSecurityUpdate(entry("openssl", { sources: [source.id] }), [source])).toBe(expected);
  });

  test("beside others; never a removal, nor what another source offers", () => {
    const both = entry("openssl", { sources: ["http://m.example x", POCKET.id] });
    expect(isSecurityUpdate(both, [POCKET])).toBe(true);
    expect(isSecurityUpdate({ ...both, action: "remove" }, [POCKET])).toBe(false);
    expect(isSecurityUpdate(entry("openssl", { sources: ["http://m.example x"] }), [POCKET])).toBe(false);
  });
});
