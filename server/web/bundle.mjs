// Bundles app/ into a folder: one entry, split at every dynamic import, names with a hash, each file also compressed.
//
//   node bundle.mjs FOLDER [--watch]
//
// Beside the files it leaves `site.json` (which addresses are pages, for server/web/site.py) and `meta.json` (what is in
// which file, for the budget's test).
import { createHash } from "node:crypto";
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";
import * as esbuild from "esbuild";
import { png } from "./raster.mjs";

const [out, mode] = process.argv.slice(2);
const isWatching = mode === "--watch";

const LOGO = "app/icons/logo.svg";
const drawing = readFileSync(LOGO, "utf8");
// The ground of the page in the light, as in tokens.css: a manifest has one colour for all.
const GROUND = "#f9fbfa";
// Whatever shape a launcher cuts, a circle of four fifths stays; the logo's corners reach 1.15 times its half width.
const INSIDE = 0.68;

const shared = {
  bundle: true,
  minify: !isWatching,
  sourcemap: isWatching ? "linked" : false,
  // Every browser of the last three years has these; light-dark() and container queries, which the styles use, are newer.
  target: "es2023",
  format: "esm",
  logLevel: "warning",
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".svg": "text" },
};

rmSync(out, { recursive: true, force: true });
mkdirSync(`${out}/assets`, { recursive: true });

const { metafile: made } = await esbuild.build({
  ...shared,
  entryPoints: ["app/socket.ts"],
  outdir: out,
  entryNames: "assets/[name]-[hash]",
  metafile: true,
});
const file = (path) => path.slice(out.length + 1);
const [socketWorker] = Object.keys(made.outputs).map(file);

const app = {
  ...shared,
  entryPoints: ["app/main.tsx"],
  outdir: out,
  entryNames: "assets/[name]-[hash]",
  chunkNames: "assets/[name]-[hash]",
  assetNames: "assets/[name]-[hash]",
  splitting: true,
  metafile: true,
  define: { SOCKET_WORKER: JSON.stringify(`/${socketWorker}`) },
  plugins: [{ name: "styles", setup: joinStyles }, { name: "site", setup: (build) => build.onEnd(({ errors, metafile }) => (errors.length ? undefined : finish(metafile))) }],
};

// The styles of every folder are in one file: esbuild has no way to load those of a page with the page.
function joinStyles(build) {
  build.onResolve({ filter: /^all-folders\.css$/ }, ({ path }) => ({ path, namespace: "styles" }));
  build.onLoad({ filter: /.*/, namespace: "styles" }, () => {
    const files = globSync("app/*/*.css").filter((path) => !path.startsWith("app/styles/")).toSorted();
    return { contents: files.map((path) => `@import "./${path}";`).join("\n"), loader: "css", resolveDir: process.cwd(), watchFiles: files };
  });
}

async function finish(metafile) {
  const icon = keep("logo.svg", readFileSync(LOGO));
  const touchIcon = keep("touch.png", png(drawing, 180, { scale: INSIDE, ground: GROUND }));
  const [script, entry] = Object.entries(metafile.outputs).find(([, output]) => output.entryPoint === "app/main.tsx");
  const first = [script, ...entry.imports.filter(({ kind }) => kind === "import-statement").map(({ path }) => path)];
  const head = [
    `<link rel="icon" type="image/svg+xml" href="/${icon}" />`,
    `<link rel="apple-touch-icon" href="/${touchIcon}" />`,
    `<link rel="manifest" href="/manifest.webmanifest" />`,
    `<link rel="stylesheet" href="/${file(entry.cssBundle)}" />`,
    ...first.slice(1).map((path) => `<link rel="modulepreload" href="/${file(path)}" />`),
    `<script type="module" src="/${file(script)}"></script>`,
  ];
  const html = readFileSync("index.html", "utf8").replace("<!-- assets -->", head.join("\n    "));
  writeFileSync(`${out}/index.html`, html);
  writeFileSync(`${out}/manifest.webmanifest`, JSON.stringify(manifest()));
  writeFileSync(`${out}/meta.json`, JSON.stringify(metafile));
  writeFileSync(`${out}/site.json`, JSON.stringify({ pages: await pages() }));
  // The name of the cache changes with the page: a new client throws the old one's files away.
  await esbuild.build({
    ...shared,
    entryPoints: { worker: "app/worker.ts" },
    outdir: out,
    define: {
      BUILD: JSON.stringify(createHash("sha256").update(html).digest("hex").slice(0, 12)),
      SHELL: JSON.stringify(["/", `/${file(entry.cssBundle)}`, `/${icon}`, `/${socketWorker}`, ...first.map((path) => `/${file(path)}`)]),
    },
  });
  if (!isWatching)
    for (const path of [...Object.keys(metafile.outputs).map(file), icon, socketWorker, "index.html", "worker.js", "manifest.webmanifest"]) compress(path);
}

// The addresses of all pages, as the table of routes has them.
async function pages() {
  const { outputFiles } = await esbuild.build({
    ...shared,
    entryPoints: ["app/routes.ts"],
    loader: { ...shared.loader, ".css": "empty" },
    write: false,
  });
  const { ROUTES } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`);
  return ROUTES.map(({ path }) => path);
}

// What a browser asks to put the client on a home screen (W3C Web Application Manifest).
function manifest() {
  const icon = (name, size, options) => ({ src: `/${keep(`${name}.png`, png(drawing, size, options))}`, sizes: `${size}x${size}`, type: "image/png" });
  return {
    id: "/",
    name: "fourtalk",
    short_name: "fourtalk",
    start_url: "/",
    scope: "/",
    display: "standalone",
    background_color: GROUND,
    theme_color: GROUND,
    icons: [icon("small", 192), icon("large", 512), { ...icon("maskable", 512, { scale: INSIDE, ground: GROUND }), purpose: "maskable" }],
  };
}

/** Write an asset whose name says what is in it. */
function keep(file, content) {
  const [stem, type] = file.split(".");
  const name = `assets/${stem}-${createHash("sha256").update(content).digest("hex").slice(0, 8)}.${type}`;
  writeFileSync(`${out}/${name}`, content);
  return name;
}

function compress(path) {
  const content = readFileSync(`${out}/${path}`);
  for (const [suffix, squeezed] of [
    ["br", brotliCompressSync(content)],
    ["gz", gzipSync(content, { level: 9 })],
  ])
    // Below some hundred bytes there is nothing to win.
    if (squeezed.length < content.length) writeFileSync(`${out}/${path}.${suffix}`, squeezed);
}

if (isWatching) await (await esbuild.context(app)).watch();
else await esbuild.build(app);
