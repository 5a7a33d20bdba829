/** What a page and its worker have to load. */
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, test } from "vitest";

/** A page that opens over a phone's network has other things to load. */
const MOST_BYTES = 6 * 1024;

test.each(["index", "worker"])("%s is at most 6 KiB, minified and compressed", async (entry) => {
  const { outputFiles } = await build({
    entryPoints: [new URL(`../src/${entry}.ts`, import.meta.url).pathname],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    write: false,
  });
  const bytes = gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
  console.info(`${entry}: ${bytes} bytes`);

  expect(bytes).toBeLessThanOrEqual(MOST_BYTES);
});
