import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isWrapperName, WRAPPER_NAMES } from "../src/aliases.ts";
import { judge, type Verdict } from "../src/wrapper-judge.ts";
import { PROGRAMS } from "../src/wrapper-table.ts";

/** `npm ci` → what becomes of it. A word may be quoted with '. */
function verdictOf(line: string): Verdict {
  const [name = "", ...words] = (line.match(/'[^']*'|\S+/g) ?? []).map((word) => word.replaceAll("'", ""));
  if (!isWrapperName(name)) throw new Error(`no wrapper: ${name}`);
  return judge(name, words);
}

describe("refused", () => {
  const CASES: [line: string, why: string][] = [
    // What changes something and can't be planned as it stands.
    ["apt full-upgrade", "remove packages"],
    ["apt-get dist-upgrade -y", "remove packages"],
    ["apt-get purge nginx", "deletes configuration"],
    ["apt-get autoremove", "chooses itself"],
    ["apt edit-sources", "trusts"],
    ["apt-get install -y --no-install-recommends nginx", "a plan can't have --no-install-recommends"],
    ["apt-get -t bookworm-backports install nginx", "a plan can't have -t"],
    ["apt-get install --allow-downgrades nginx", "a plan can't have --allow-downgrades"],
    ["apt-get -f install", "a plan can't have -f"],
    ["apt-get install -d nginx", "a plan can't have -d"],
    ["apt-get -o Dpkg::Options::=--force-all install nginx", "a plan can't have -o"],
    ["apt-get download nginx", "does not know download"],
    ["apt-get source nginx", "does not know source"],
    ["apt -a list", "does not know -a"],
    // A verb of apt's as a value would make its table of options another one.
    ["apt -c policy -s list install nginx", "does not know -c"],
    ["apt -c list -a install list nginx", "does not know -c"],
    ["apt-get clean", "does not know clean"],
    // A simulation that could be switched off again, or that runs what an option names.
    ["apt-get -s --no-simulate install nginx", "does not know --no-simulate"],
    ["apt-get -s --simulate=no install nginx", "does not know --simulate=no"],
    ["apt-get -s -o APT::Get::Simulate=false install nginx", "a plan can't have -s"],
    ["apt-get install -s -c /tmp/x nginx", "does not know -c"],
    ["apt-get install -y -s no nginx", "a plan can't have -s"],
    ["apt-get install nginx --dry-run OFF", "a plan can't have --dry-run"],
    ["apt-get install -s 0x0 nginx", "a plan can't have -s"],
    ["apt-get install -s '' nginx", "a plan can't have -s"],
    ["apt-get autoremove -y -s 0", "chooses itself"],
    ["npm --tag --prefix ls install left-pad", "--tag has no value"],
    ["code --locale --install-extension a.b", "--locale has no value"],
    ["docker --context", "--context has no value"],
    ["apt-get install nginx -s=false", "does not know -s=false"],
    ["apt-get install --help --no-help nginx", "does not know --help"],
    ["apt-get --version install nginx", "does not know --version"],
    ["apt-get -h install nginx", "does not know -h"],
    ["aptitude", "without a verb"],
    ["aptitude full-upgrade", "does not know full-upgrade"],
    ["aptitude forbid-version x", "does not know forbid-version"],
    ["npm ci", "lifecycle scripts"],
    ["npm run build", "runs scripts"],
    ["npm test", "runs scripts"],
    ["npm start", "runs scripts"],
    ["npm exec cowsay", "download a package and run"],
    ["npm init vite", "download a package and run"],
    ["npm uninstall x", "changes what is installed"],
    ["npm update", "changes what is installed"],
    ["npm audit fix", "more than look"],
    ["npm audit --omit dev fix", "more than look"],
    ["npm version 2.0.0", "does not know version"],
    ["npm config set registry http://evil", "does not know config"],
    ["npm set registry http://evil", "does not know set"],
    ["npm publish", "does not know publish"],
    ["npm --prefix x install left-pad", "a plan can't have --prefix"],
    ["npm --prefix=x install left-pad", "a plan can't have --prefix"],
    ["npm --global true install left-pad", "does not know true"],
    ["npm --unknown view install left-pad", "does not know --unknown"],
    ["npm install --save-dev left-pad", "does not know --save-dev"],
    ["npm constructor", "does not know constructor"],
    ["npm __proto__", "does not know __proto__"],
    ["pip install -r requirements.txt", "requirements-file-denied"],
    ["pip3 install --requirement=requirements.txt", "requirements-file-denied"],
    ["pip install -e .", "local-path-denied"],
    ["pip install --user flask", "does not know --user"],
    ["pip install --target /opt flask", "does not know --target"],
    ["pip install --break-system-packages flask", "does not know --break-system-packages"],
    ["pip --python /tmp/evil list", "does not know --python"],
    ["pip list --python /tmp/evil", "more than look"],
    ["pip download flask", "runs their code"],
    ["pip uninstall flask", "changes what is installed"],
    ["pip config set global.index-url http://evil", "does not know config"],
    ["docker run alpine", "pulls the image on its own"],
    ["docker run alpine --help", "pulls the image on its own"],
    ["docker --context x run --rm -it alpine sh", "pulls the image on its own"],
    ["docker create alpine", "pulls the image on its own"],
    ["docker compose up -d", "pulls the image on its own"],
    ["docker compose -f x.yml ps", "pulls the image on its own"],
    ["docker build .", "nobody has judged"],
    ["docker load -i x.tar", "nobody has judged"],
    ["docker exec x sh", "in a container"],
    ["docker rm x", "does not know rm"],
    ["docker image rm x", "does not know image"],
    ["docker pull --platform linux/arm64 alpine", "does not know --platform"],
    ["podman run alpine", "pulls the image on its own"],
    ["go build ./...", "downloads modules"],
    ["go list -m all", "downloads modules"],
    ["go mod download", "downloads modules"],
    ["go run .", "runs what is in them"],
    ["go test ./...", "runs what is in them"],
    ["go env -w GOPROXY=http://evil", "more than look"],
    ["go env --w GOPROXY=http://evil", "more than look"],
    ["go -C /tmp version", "does not know -C"],
    ["cargo build", "build scripts"],
    ["cargo +nightly build", "does not know +nightly"],
    ["cargo -q test", "build scripts"],
    ["cargo fetch", "downloads crates"],
    ["cargo install --git https://x/y", "does not know --git"],
    ["cargo install --path .", "does not know --path"],
    ["cargo uninstall ripgrep", "changes what is installed"],
    ["cargo evil --help", "does not know evil"],
    ["nuget restore", "changes what is installed"],
    ["nuget sources add -Name x", "does not know sources"],
    ["code --uninstall-extension x.y", "changes what is installed"],
    ["code --list-extensions --install-extension x.y", "more than look"],
    ["code --list-extensions --install-extension=x.y", "more than look"],
    ["code --extensionDevelopmentPath=/tmp/x .", "does not know --extensionDevelopmentPath"],
    ["code tunnel", "to others"],
    ["code --unknown x", "does not know --unknown"],
  ];
  for (const [line, why] of CASES)
    test(line, () => {
      const verdict = verdictOf(line);
      expect(verdict).toMatchObject({ does: "refuse" });
      expect(verdict.does === "refuse" && verdict.why).toContain(why);
    });

  test("apt install -f without a package is a repair", () => {
    const lines = ["apt install -f", "apt-get -f install", "apt-get -fy install", "apt --fix-broken install"];
    for (const line of lines)
      expect(verdictOf(line)).toMatchObject({ does: "refuse", instead: ["plan", "apt", "repair"] });
    expect(verdictOf("apt-get -f install nginx")).toMatchObject({
      instead: ["plan", "apt", "install", "nginx"],
    });
  });

  test("a wish that could be planned without an option is told how", () => {
    expect(verdictOf("apt-get install -y --no-install-recommends nginx")).toMatchObject({
      instead: ["plan", "apt", "install", "nginx"],
    });
    expect(verdictOf("apt-get -t backports install nginx")).toMatchObject({
      instead: ["plan", "apt", "install", "nginx"],
    });
  });
});

describe("planned", () => {
  const CASES: [line: string, plan: string][] = [
    ["apt update", "apt update"],
    ["apt-get -qq -y update", "apt update"],
    ["apt upgrade -y", "apt upgrade"],
    ["aptitude safe-upgrade", "apt upgrade"],
    ["apt install nginx", "apt install nginx"],
    ["apt -y install nginx", "apt install nginx"],
    ["apt-get -qqy install nginx curl=8", "apt install nginx curl=8"],
    ["apt-get install -y nginx --quiet curl", "apt install nginx curl"],
    ["apt-get remove nginx", "apt remove nginx"],
    ["apt install ./evil.deb", "apt install ./evil.deb"],
    ["apt install nginx-", "apt install nginx-"],
    ["npm install -g left-pad", "npm install left-pad"],
    ["npm i left-pad@1.3.0", "npm install left-pad@1.3.0"],
    ["npm -g add left-pad", "npm install left-pad"],
    ["npm isntall left-pad", "npm install left-pad"],
    ["npm install --dry-run left-pad", "npm install left-pad"],
    ["npm install git+https://x/y", "npm install git+https://x/y"],
    ["npm install", "npm install"],
    ["pip install flask==3.0", "pip install flask==3.0"],
    ["pip3 -q install --upgrade flask", "pip install flask"],
    ["docker pull alpine:3", "docker pull alpine:3"],
    ["docker image pull alpine", "docker pull alpine"],
    ["podman pull -q alpine", "podman pull alpine"],
    ["nuget install Newtonsoft.Json", "nuget install Newtonsoft.Json"],
    ["code --install-extension ms-python.python --force", "vscode install ms-python.python"],
    ["code --install-extension=ms-python.python", "vscode install ms-python.python"],
    ["go get golang.org/x/text@v0.3.0", "go get golang.org/x/text@v0.3.0"],
    ["go install x.org/y@latest", "go get x.org/y@latest"],
    ["cargo install --locked ripgrep", "cargo install ripgrep"],
  ];
  for (const [line, plan] of CASES)
    test(line, () => {
      const verdict = verdictOf(line);
      const { ecosystem, operation, targets } =
        verdict.does === "plan" ? verdict : { ecosystem: verdict.does, operation: "", targets: [] };
      expect([ecosystem, operation, ...targets].join(" ")).toBe(plan);
    });
});

describe("let through", () => {
  const CASES = [
    ...["apt", "apt --version", "apt list --upgradable", "apt show nginx", "apt search web"],
    ...[
      "apt policy",
      "apt-get -s install nginx",
      "apt-get install --dry-run nginx",
      "apt-get -sy dist-upgrade",
    ],
    ...["apt-get --simulate -y --no-install-recommends install nginx", "apt-get install --just-print nginx"],
    ...[
      "apt-get -s remove nginx",
      "apt-get -qs upgrade",
      "apt-get check",
      "apt -o X=Y list",
      "apt install --help",
    ],
    ...["aptitude search nginx", "aptitude -s install nginx", "aptitude why nginx"],
    ...[
      "npm",
      "npm --version",
      "npm -v",
      "npm view left-pad --json",
      "npm --prefix x view left-pad",
      "npm ls -g",
    ],
    ...["npm config get registry", "npm audit", "npm audit signatures", "npm install --help", "npm outdated"],
    ...[
      "pip list",
      "pip3 show flask",
      "pip --version",
      "pip -q freeze",
      "pip index versions flask",
      "pip check",
    ],
    ...[
      "docker",
      "docker ps -a",
      "docker --host unix:///x ps",
      "docker -H tcp://x images",
      "docker logs -f x",
    ],
    ...[
      "docker image ls",
      "docker manifest inspect alpine",
      "docker run --help",
      "docker compose ps",
      "podman ps",
    ],
    ...[
      "podman --root /x images",
      "nuget list x",
      "nuget sources list",
      "go version",
      "go env GOPROXY",
      "go doc fmt",
    ],
    ...["cargo --version", "cargo search x", "cargo --list", "cargo info x", "cargo build --help"],
    ...["code", "code .", "code -g src/x.ts:3", "code -n a b", "code --list-extensions --show-versions"],
    ...["code --version", "code -", "code --diff a b"],
  ];
  for (const line of CASES) test(line, () => expect(verdictOf(line)).toEqual({ does: "pass" }));
});

test("every name has a table, and only verbs of it and words that stand alone are let through", () => {
  expect(Object.keys(PROGRAMS).sort()).toEqual([...WRAPPER_NAMES].sort());
  const word = fc.oneof(
    fc.string({ maxLength: 12 }),
    fc.constantFrom("-y", "--yes", "install", "list", "view", "--", "-", "--help", "run", "toString"),
  );
  fc.assert(
    fc.property(fc.constantFrom(...WRAPPER_NAMES), fc.array(word, { maxLength: 5 }), (name, words) => {
      const { verbs, alone, bare, files } = PROGRAMS[name];
      if (judge(name, words).does !== "pass") return;
      const known = words.some((one, i) =>
        [one, `${one} ${words[i + 1]}`, one.replace(/=.*/s, "")].some((label) => Object.hasOwn(verbs, label)),
      );
      const [only = ""] = words;
      expect(
        known ||
          (words.length === 0 && bare) ||
          (words.length === 1 && alone.includes(only)) ||
          files === true,
      ).toBe(true);
    }),
  );
});
