import { describe, expect, test } from "bun:test";
import { executorPlanningEnv, userPlanningEnv } from "../src/plan-env.ts";

const SETTINGS = [
  "AEGIS_GOPROXY=https://go.example",
  "AEGIS_GOSUMDB=sum.example+1+x",
  "AEGIS_NPM_REGISTRY=https://npm.example/",
  "AEGIS_PIP_INDEX_URL=https://pip.example/simple/",
  "AEGIS_CARGO_INDEX=sparse+https://cargo.example/",
  "AEGIS_NUGET_SOURCE=https://nuget.example/v3/index.json",
  "AEGIS_OSV_DIR=/var/lib/osv",
].join("\n");
const file = (text: string) => (path: string) => (path === "/etc/aegis/aegisd.env" ? text : null);
const REGISTRIES = {
  GOPROXY: "https://go.example",
  GOSUMDB: "sum.example+1+x",
  npm_config_registry: "https://npm.example/",
  PIP_INDEX_URL: "https://pip.example/simple/",
  AEGIS_CARGO_INDEX: "sparse+https://cargo.example/",
  AEGIS_NUGET_SOURCE: "https://nuget.example/v3/index.json",
};

describe("the executor plans with the host's settings", () => {
  test("and with nobody's home", () => {
    expect(executorPlanningEnv(file(SETTINGS))).toEqual({
      ...{ HOME: "/nonexistent", XDG_CACHE_HOME: "/var/cache", GOENV: "off" },
      ...{ AEGIS_OSV_DIR: "/var/lib/osv", AEGIS_OSV_URL: undefined },
      ...REGISTRIES,
    });
  });
  test("without any, the tools' own defaults hold", () => {
    const env = executorPlanningEnv(file("AEGIS_GOPROXY=\n"));
    expect(Object.keys(REGISTRIES).filter((name) => name in env)).toEqual([]);
  });
  test("an unknown name is an error", () => {
    expect(() => executorPlanningEnv(file("AEGIS_GOPROXI=x"))).toThrow("unknown name AEGIS_GOPROXI");
  });
});

describe("a user plans with the host's settings where the environment names none", () => {
  const planned = (env: Record<string, string>) =>
    userPlanningEnv({ HOME: "/home/u", ...env }, file(SETTINGS));

  test("none", () => {
    expect(planned({})).toEqual({
      ...{ HOME: "/home/u", AEGIS_OSV_DIR: "/var/lib/osv", AEGIS_OSV_URL: undefined },
      ...REGISTRIES,
    });
  });
  test.each([
    ["GOPROXY", "https://own.example", "GOPROXY"],
    ["NPM_CONFIG_REGISTRY", "https://own.example", "npm_config_registry"],
    ["npm_config_registry", "https://own.example", "npm_config_registry"],
    ["PIP_INDEX_URL", "https://own.example", "PIP_INDEX_URL"],
  ])("%s=%s stays, and so do the others of the host", (name, value, variable) => {
    const env: Record<string, string | undefined> = planned({ [name]: value });
    expect([env[name], env[variable] ?? value]).toEqual([value, value]);
    expect(env.GOSUMDB).toBe("sum.example+1+x");
  });
  test("own vulnerability data, of either kind, stands alone", () => {
    const env = planned({ AEGIS_OSV_URL: "https://osv.example" });
    expect([env.AEGIS_OSV_DIR, env.AEGIS_OSV_URL]).toEqual([undefined, "https://osv.example"]);
  });
});
