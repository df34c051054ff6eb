import { describe, expect, test } from "bun:test";
import { planningGoMod, readGoMod, retraction } from "../src/go-mod.ts";

describe("a go.mod", () => {
  test("its directives, in blocks and alone, with comments", () => {
    const mod = readGoMod(
      [
        "// Deprecated: use example.com/new",
        "// instead.",
        'module "example.com/old" // the old one',
        "",
        "go 1.24.0",
        "toolchain go1.24.5",
        "require (",
        "\texample.com/a v1.0.0 // indirect",
        "\texample.com/replace v1.0.0",
        ")",
        "replace example.com/a v1.0.0 => ../a",
        "exclude (",
        "\texample.com/b v1.2.3",
        ")",
        "retract (",
        "\t// Published by mistake.",
        "\tv1.0.1",
        "\t[v1.1.0, v1.1.9] // Loses data.",
        ")",
        "retract v0.9.0",
      ].join("\n"),
    );
    expect(mod).toEqual({
      module: "example.com/old",
      go: "1.24.0",
      toolchain: "go1.24.5",
      require: [
        { path: "example.com/a", version: "v1.0.0" },
        { path: "example.com/replace", version: "v1.0.0" },
      ],
      replace: ["example.com/a v1.0.0 => ../a"],
      exclude: ["example.com/b v1.2.3"],
      retract: [
        { from: "v1.0.1", to: "v1.0.1", why: "Published by mistake." },
        { from: "v1.1.0", to: "v1.1.9", why: "Loses data." },
        { from: "v0.9.0", to: "v0.9.0", why: "" },
      ],
      deprecated: "use example.com/new instead. the old one",
    });
    expect(retraction(mod, "v1.1.5")).toBe("Loses data.");
    expect(retraction(mod, "v0.9.0")).toBe("no reason is given");
    expect(retraction(mod, "v1.2.0")).toBeNull();
  });

  test.each(["", "module", "retract [", "retract (\n)", ")", "go", "replace", "\u0000"])(
    "%j: nothing is made up",
    (text) => {
      const mod = readGoMod(text);
      expect([mod.module ?? "", mod.deprecated, retraction(mod, "v1.0.0")]).toEqual(["", null, null]);
    },
  );
});

describe("the go.mod of planning", () => {
  const of = (text: string) => planningGoMod("example.com/a", "v1.0.0", readGoMod(text));

  test.each([
    ["", "go 1.17\n"],
    ["go 1.12", "go 1.17\n"],
    ["go 1.17", "go 1.17\n"],
    ["go 1.21", "go 1.21\n"],
    ["go 1.24.3", "go 1.24.3\n"],
    ["go 1.27rc1", "go 1.27rc1\n"],
    ["go 1.99;evil", "go 1.17\n"],
    ["go 2.0", "go 1.17\n"],
  ])("%j asks for %j, so that a go command which is too old says so", (text, line) => {
    expect(of(text)).toBe(`module aegis.invalid/plan\n\n${line}\nrequire example.com/a v1.0.0\n`);
  });

  test("a toolchain line is kept: go 1.20 and older refuse it", () => {
    expect(of("go 1.21\ntoolchain go1.22.1\n")).toContain("\ntoolchain go1.22.1\n");
  });

  test.each([
    ["replace a.example => ../a", "replace directive (a.example => ../a)"],
    ["exclude a.example v1.0.0", "exclude directive (a.example v1.0.0)"],
  ])("%s: go install refuses it", (text, why) => expect(() => of(text)).toThrow(why));
});
