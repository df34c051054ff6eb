import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fetchFiles } from "../src/eco-fetch.ts";

/** Stands for a runner that fetches, and can be killed: `<aegis> <directory> <port> <uid>`. */
const [, , aegis = "", directory = "", port = "", uid = ""] = process.argv;
const root = join(directory, "root");
mkdirSync(root, { recursive: true });
const file = {
  ...{ name: "x", version: "1.0.0", isSupport: false, integrity: "", sha256: "0".repeat(64), size: 10 },
  ...{ url: `http://127.0.0.1:${port}/file/0`, path: join(directory, "files/0") },
};
await fetchFiles([file], join(directory, "files"), {
  ...{
    aegis,
    root,
    unit: null,
    account: { name: "fetch", uid: Number(uid), gid: Number(uid) },
    reached: () => ({}),
  },
  ...{ progress() {}, stop: new AbortController().signal },
});
