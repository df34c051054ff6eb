import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { pip } from "../src/pip.ts";
import { makePlan } from "../src/plan.ts";
import { openPlanning } from "../src/plan-world.ts";
import { run } from "../src/sys-spawn.ts";

/*
 * Our resolver against pip's own: for each package the names and versions of both closures.
 */

/** Widely used packages with and without dependencies, machine code, extras, markers and tight bounds; none over 100 MB. */
const PACKAGES = [
  ...[
    "requests",
    "flask",
    "django",
    "fastapi",
    "starlette",
    "uvicorn",
    "gunicorn",
    "aiohttp",
    "httpx",
    "urllib3",
  ],
  ...[
    "boto3",
    "botocore",
    "s3transfer",
    "s3fs",
    "awscli",
    "google-auth",
    "google-cloud-storage",
    "google-api-core",
  ],
  ...[
    "azure-core",
    "azure-identity",
    "azure-storage-blob",
    "msal",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
  ],
  ...[
    "matplotlib",
    "seaborn",
    "statsmodels",
    "sympy",
    "networkx",
    "xarray",
    "dask",
    "pyarrow",
    "polars",
    "pillow",
  ],
  ...[
    "sqlalchemy",
    "alembic",
    "psycopg",
    "psycopg2-binary",
    "pymysql",
    "redis",
    "pymongo",
    "celery",
    "kombu",
    "peewee",
  ],
  ...[
    "pytest",
    "pytest-cov",
    "hypothesis",
    "tox",
    "nox",
    "coverage",
    "mypy",
    "ruff",
    "black",
    "isort",
    "flake8",
    "pylint",
  ],
  ...[
    "sphinx",
    "mkdocs",
    "mkdocs-material",
    "jupyter",
    "jupyterlab",
    "notebook",
    "ipython",
    "ipykernel",
    "nbconvert",
  ],
  ...[
    "click",
    "typer",
    "rich",
    "textual",
    "tqdm",
    "pydantic",
    "attrs",
    "marshmallow",
    "jinja2",
    "pyyaml",
    "toml",
    "tomlkit",
  ],
  ...[
    "cryptography",
    "pyopenssl",
    "paramiko",
    "bcrypt",
    "pyjwt",
    "python-jose",
    "passlib",
    "certifi",
    "idna",
  ],
  ...[
    "ansible-core",
    "ansible-lint",
    "molecule",
    "poetry",
    "pipenv",
    "hatch",
    "build",
    "twine",
    "virtualenv",
    "pip-tools",
  ],
  ...[
    "black==22.12.0",
    "flask==2.0.3",
    "django==3.2.25",
    "jupyterlab==3.6.8",
    "apache-airflow-client",
    "httpie",
    "yt-dlp",
  ],
  ...[
    "scrapy",
    "beautifulsoup4",
    "lxml",
    "selenium",
    "playwright",
    "openai",
    "anthropic",
    "tiktoken",
    "langchain",
  ],
  ...[
    "streamlit",
    "dash",
    "plotly",
    "bokeh",
    "gradio",
    "prefect",
    "luigi",
    "great-expectations",
    "pre-commit",
    "uvloop",
  ],
  ...[
    "kubernetes",
    "docker",
    "fabric",
    "invoke",
    "opentelemetry-sdk",
    "prometheus-client",
    "sentry-sdk",
    "structlog",
  ],
];

/** Differences that are meant, with the reason; any other fails the script. */
const EXPLAINED: Readonly<Record<string, string>> = {};

const { values, positionals } = parseArgs({
  args: process.argv.slice(2),
  options: { pip: { type: "string" } },
  allowPositionals: true,
});
const work = mkdtempSync(join(tmpdir(), "aegis-pip-agreement-"));
const certificates = process.env.PIP_CERT;
const env = {
  HOME: join(work, "home"),
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C.UTF-8",
  PIP_CONFIG_FILE: "/dev/null",
  ...(process.env.PIP_INDEX_URL === undefined ? {} : { PIP_INDEX_URL: process.env.PIP_INDEX_URL }),
  ...(certificates === undefined ? {} : { PIP_CERT: certificates }),
};
mkdirSync(env.HOME);
const planning = openPlanning({ env });
const program = values.pip === undefined ? ["-m", "pip"] : [join(values.pip, "pip")];

const say = (line: string) => process.stdout.write(`${line}\n`);

type Closure = { versions: string[] } | { problem: string };

async function ours(target: string): Promise<Closure> {
  const plan = await makePlan(pip, "install", [target], planning);
  if (!plan.metadata_available) return { problem: plan.warnings.join(" ") };
  return { versions: plan.transaction.map(({ name, to_version }) => `${name} ${to_version}`) };
}

async function pips(target: string): Promise<Closure> {
  const options = ["--dry-run", "--ignore-installed", "--only-binary", ":all:", "--report", "-", "--quiet"];
  const { stdout, stderr, status } = await run(
    "/usr/bin/python3",
    [...program, "install", ...options, "--target", join(work, "target"), target],
    { env, cwd: work, timeoutMs: 600_000, maxBytes: 64 * 1024 * 1024 },
  );
  if (status !== 0) return { problem: stderr.toString().trim().split("\n").slice(-2).join(" ") };
  const { install, pip_version } = JSON.parse(stdout.toString());
  version = pip_version;
  return {
    versions: install
      .map(({ metadata }: { metadata: { name: string; version: string } }) => {
        return `${metadata.name.toLowerCase().replace(/[-_.]+/g, "-")} ${metadata.version}`;
      })
      .toSorted(),
  };
}

let version = "";
let [equal, packages, differences] = [0, 0, 0];
for (const target of positionals.length > 0 ? positionals : PACKAGES) {
  const [mine, theirs] = await Promise.all([
    ours(target).catch((error) => ({ problem: String(error) })),
    pips(target),
  ]);
  const [a, b] = [mine, theirs].map((one) => ("versions" in one ? one.versions.toSorted().join("\n") : null));
  if (a === b) {
    equal++;
    packages += "versions" in mine ? mine.versions.length : 0;
    say(`equal  ${target}: ${"versions" in mine ? `${mine.versions.length} packages` : "neither finds one"}`);
    continue;
  }
  const why = EXPLAINED[target];
  if (why === undefined) differences++;
  say(`differ ${target}${why === undefined ? "" : ` (meant: ${why})`}`);
  const [left, right] = [new Set(a?.split("\n")), new Set(b?.split("\n"))];
  for (const one of left) if (!right.has(one)) say(`         only ours: ${one}`);
  for (const one of right) if (!left.has(one)) say(`         only pip's: ${one}`);
  for (const [whose, one] of [
    ["ours", mine],
    ["pip's", theirs],
  ] as const)
    if ("problem" in one) say(`         ${whose}: ${one.problem.slice(0, 600)}`);
}
say(`${equal} of ${equal + differences} closures equal pip ${version}'s, ${packages} packages in them`);
planning.close();
rmSync(work, { recursive: true, force: true });
process.exitCode = differences === 0 ? 0 : 1;
