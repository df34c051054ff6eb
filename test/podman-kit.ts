import { gunzipSync, gzipSync } from "node:zlib";
import { tar } from "./archive-kit.ts";
import { BASE, digestOf, type FakeImage, fakeImage, type MadeImage } from "./image-kit.ts";
import { type LayerEntryFields, layerEntry } from "./layer-kit.ts";

/*
 * podman's store, images that podman can unpack and run, and a registry of the test's own.
 */

/** podman on Aegis's store. */
export const STORE = ["podman", "--root", "/var/lib/aegis/podman/storage", "--runroot", "/run/aegis/podman"];

/** An image of layers, each of entries. */
export function imageOf(layers: readonly (readonly Buffer[])[], given: FakeImage = {}): MadeImage {
  return imageOfFiles(
    layers.map((entries) => gzipSync(tar(...entries))),
    given,
  );
}

export function imageOfFiles(files: readonly Buffer[], given: FakeImage = {}): MadeImage {
  const diff_ids = files.map((one) => digestOf(gunzipSync(one)));
  return fakeImage({ ...given, layers: files, configuration: { rootfs: { type: "layers", diff_ids } } });
}

export const directory = (path: string, given: LayerEntryFields = {}) =>
  layerEntry(path, { type: "5", ...given });

/** A static program for amd64 that prints `hello\n` and ends: an ELF header, one program header, the code, the text. */
export function helloProgram(): Buffer {
  const code = Buffer.from(
    // write(1, text, 6); exit(0)
    "b801000000bf01000000488d3510000000ba060000000f05b83c00000031ff0f05" + "68656c6c6f0a",
    "hex",
  );
  const [header, base] = [120, 0x400000n];
  const elf = Buffer.alloc(header + code.length);
  Buffer.from("7f454c4602010100", "hex").copy(elf);
  elf.writeUInt16LE(2, 16);
  elf.writeUInt16LE(62, 18);
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(base + BigInt(header), 24);
  elf.writeBigUInt64LE(64n, 32);
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(1, 64);
  elf.writeUInt32LE(5, 68);
  elf.writeBigUInt64LE(base, 80);
  elf.writeBigUInt64LE(base, 88);
  elf.writeBigUInt64LE(BigInt(elf.length), 96);
  elf.writeBigUInt64LE(BigInt(elf.length), 104);
  elf.writeBigUInt64LE(0x1000n, 112);
  code.copy(elf, header);
  return elf;
}

type Answers = Record<string, unknown>;

/** A registry with one repository, `team/app`. */
export class PodmanRegistry {
  readonly #server: ReturnType<typeof Bun.serve>;
  answers: Answers;
  /** Called with each request before it is answered; what it returns is the answer. */
  trick: ((path: string, answer: () => Response, request: Request) => Response | null) | null = null;

  constructor(answers: Answers) {
    this.answers = answers;
    this.#server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request) => {
        const { pathname } = new URL(request.url);
        const answer = () => this.answerOf(pathname);
        return this.trick?.(pathname, answer, request) ?? answer();
      },
    });
  }

  /** `host:port`, for a policy. */
  get host(): string {
    return `127.0.0.1:${this.#server.port}`;
  }

  get name(): string {
    return `${this.host}/team/app`;
  }

  get policy(): string {
    return `[container]\nallowed_registries = ["${this.host}"]\n`;
  }

  answerOf(pathname: string): Response {
    const answer = this.answers[`${BASE}${pathname.replace("/v2/team/app", "")}`];
    if (typeof answer !== "string" && !(answer instanceof Uint8Array))
      return new Response("{}", { status: 404 });
    const bytes = Buffer.from(answer);
    const type = pathname.includes("/manifests/") ? JSON.parse(bytes.toString()).mediaType : undefined;
    return new Response(bytes, { headers: { "content-type": type ?? "application/octet-stream" } });
  }

  async stop(): Promise<void> {
    await this.#server.stop(true);
  }
}
