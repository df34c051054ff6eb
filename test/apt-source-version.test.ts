import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { sourcePackageOf } from "../src/apt-source-version.ts";
import { isDebVersion } from "../src/apt-target.ts";

/** Field `Source`, the binary's version, and the expected source. The binary is named `x1`. */
const CASES: [field: string | undefined, version: string, source: string][] = [
  ["libbpf (1.1.2-0+deb12u1)", "1:1.1.2-0+deb12u1", "libbpf 1.1.2-0+deb12u1"],
  ["gcc-defaults (1.203)", "4:12.2.0-3", "gcc-defaults 1.203"],
  ["x (2:1.0-1)", "1.0-1", "x 2:1.0-1"],
  ["bash (5.2.15-2)", "5.2.15-2+b8", "bash 5.2.15-2"],
  ["linux-signed-amd64 (6.1.192+3)", "6.1.192-3", "linux-signed-amd64 6.1.192+3"],
  ["x(1.0-1)", "1:1.0-1", "x 1.0-1"],
  ["nginx", "1.22.1-9", "nginx 1.22.1-9"],
  ["nginx", "1.22.1-9+b3", "nginx 1.22.1-9"],
  [undefined, "1.0-1", "x1 1.0-1"],
  [undefined, "1.0-1+b12", "x1 1.0-1"],
  // Malformed parts are ignored, not guessed.
  ["", "1.0-1", "x1 1.0-1"],
  ["x ()", "1.0-1", "x 1.0-1"],
  ["x (not a version)", "1.0-1", "x1 1.0-1"],
  ["x (1.0-9", "1.0-1", "x1 1.0-1"],
  ["x (1.0-9) (1.0-8)", "1.0-1", "x1 1.0-1"],
  ["x (é)", "1.0-1", "x 1.0-1"],
  ["x\u00a0(1.0-9)", "1.0-1", "x1 1.0-1"],
];

describe("the source of a binary package", () => {
  for (const [field, version, source] of CASES) {
    test(`${field ?? "no field"}, ${version}: ${source}`, () => {
      const found = sourcePackageOf("x1", version, field);
      expect(`${found.name} ${found.version}`).toBe(source);
    });
  }
  test("is always a name without white space, with the given version or the binary's", () => {
    fc.assert(
      fc.property(fc.string(), (field) => {
        const { name, version } = sourcePackageOf("x1", "1.0-1", field);
        expect(name).not.toMatch(/[\s()]/);
        expect(isDebVersion(version)).toBe(true);
      }),
    );
  });
});
