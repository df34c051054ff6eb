import { describe, expect, test } from "bun:test";
import { AegisError } from "../src/errors.ts";
import { changeInWords, refuseDowngrade } from "../src/host-version.ts";

describe("downgrades are refused", () => {
  const CASES: [installed: string | null, own: string, refused: boolean][] = [
    ["0.6.0", "0.5.0", true],
    ["0.10.0", "0.9.0", true],
    ["1.0.0", "1.0.0-rc.1", true],
    ["1.0.0-rc.10", "1.0.0-rc.9", true],
    ["0.5.0", "0.5.0", false],
    ["0.5.0+a", "0.5.0+b", false],
    ["0.4.0", "0.5.0", false],
    ["1.0.0-rc.1", "1.0.0", false],
    [null, "0.5.0", false],
  ];
  for (const [version, own, refused] of CASES) {
    test(`${own} over ${version}: ${refused ? "refused" : "accepted"}`, () => {
      let error: unknown = null;
      try {
        refuseDowngrade({ exists: true, version }, own);
      } catch (thrown) {
        error = thrown;
      }
      if (!refused) expect(error).toBeNull();
      else {
        expect(error).toBeInstanceOf(AegisError);
        expect(error).toMatchObject({
          code: "usage",
          message: expect.stringContaining(`aegis ${own}, but ${version} is installed`),
          hint: expect.stringContaining("--downgrade"),
        });
      }
    });
  }
});

test.each([
  [{ exists: false, version: null }, "copy this program there (0.5.0)"],
  [{ exists: true, version: null }, "replace an unknown version with 0.5.0"],
  [{ exists: true, version: "0.5.0" }, "replace 0.5.0 with 0.5.0 (same version, another build)"],
  [{ exists: true, version: "0.4.9" }, "upgrade from 0.4.9 to 0.5.0"],
  [{ exists: true, version: "0.6.0" }, "downgrade from 0.6.0 to 0.5.0"],
])("%p: %s", (installed, words) => expect(changeInWords(installed, "0.5.0")).toBe(words));
