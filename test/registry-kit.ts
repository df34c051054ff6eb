import { createHash } from "node:crypto";
import type { Planning } from "../src/eco-planning.ts";
import { AegisError } from "../src/errors.ts";

/** What a fake registry answers for one address: a body, or a status with one. */
export type RegistryAnswer =
  | string
  | Uint8Array
  | { status: number; body?: string; location?: string; headers?: Readonly<Record<string, string>> };

type Registry = Pick<Planning, "get" | "packageFile"> & {
  /** Addresses in the order they were asked for, with the headers. */
  requests: { url: string; headers: Readonly<Record<string, string>> }[];
};

/** The registry half of planning, answered from a table of addresses; any other is answered with 404. */
export function fakeRegistry(answers: Readonly<Record<string, RegistryAnswer>>): Registry {
  const requests: Registry["requests"] = [];
  const get: Registry["get"] = async (url, { headers = {} } = {}) => {
    requests.push({ url: url.href, headers });
    const answer = answers[url.href] ?? { status: 404 };
    const isBody = typeof answer === "string" || answer instanceof Uint8Array;
    const {
      status,
      body = "",
      location = "",
      headers: sent = {},
    } = isBody ? { status: 200, body: answer } : answer;
    const header = (name: string) => sent[name] ?? "";
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    return { status, contentType: header("content-type"), location, header, bytes };
  };
  return {
    requests,
    get,
    async packageFile(url, digest, request) {
      const { status, bytes } = await get(url, request);
      const hex = digest === null ? "" : createHash(digest.algorithm).update(bytes).digest("hex");
      if (status !== 200)
        throw new AegisError("unavailable", `${url.host} gave no usable answer: status ${status}`);
      if (digest !== null && hex !== digest.hex) throw new AegisError("evidence_mismatch", "another file");
      return { bytes, sha256: createHash("sha256").update(bytes).digest("hex") };
    },
  };
}
