// Draws our logo as pixels, for the places that take no SVG: home screens and app launchers.
//
// It knows what the logo is made of: paths of lines and circular arcs in a square of 24, in one colour and several opacities.
import { crc32, deflateSync } from "node:zlib";

const BOX = 24;
// Lines that an arc becomes: at 512 px a chord is a tenth of a pixel off.
const CHORDS = 32;
// Lines of a pixel that are looked at: across it an edge is exact, downwards it has so many shades.
const LINES = 8;

/** A PNG of the logo, `scale` of the whole wide and in the middle; on a ground (`#rrggbb`), or on nothing. */
export function png(svg, size, { scale = 1, ground } = {}) {
  const ink = bytes(/color="(#[\da-f]{6})"/.exec(svg)[1]);
  const covered = new Float64Array(size * size);
  const place = (units) => ((units / BOX - 0.5) * scale + 0.5) * size;
  for (const [, opacity = "1", d] of svg.matchAll(/<path(?: opacity="([\d.]+)")? d="([^"]+)"/g))
    cover(covered, size, outline(d).map(([x, y]) => [place(x), place(y)]), Number(opacity));
  const paper = ground === undefined ? undefined : bytes(ground);
  const rows = Buffer.alloc(size * (1 + size * 4));
  covered.forEach((much, at) => {
    const colour = paper === undefined ? [...ink, Math.round(much * 255)] : [...paper.map((part, of) => Math.round(part + (ink[of] - part) * much)), 255];
    // Each row begins with the way it is filtered: not at all.
    rows.set(colour, at * 4 + Math.floor(at / size) + 1);
  });
  const head = Buffer.alloc(13);
  head.writeUInt32BE(size, 0);
  head.writeUInt32BE(size, 4);
  // Eight bits of red, green, blue and opacity.
  head.set([8, 6], 8);
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", head), chunk("IDAT", deflateSync(rows, { level: 9 })), chunk("IEND", Buffer.alloc(0))]);
}

/** Add to each pixel how much of it a shape covers. */
function cover(covered, size, corners, opacity) {
  for (let line = 0; line < size * LINES; line++) {
    const y = (line + 0.5) / LINES;
    const crossings = corners
      .map((corner, at) => [corner, corners.at(at - 1)])
      .filter(([[, one], [, other]]) => one > y !== other > y)
      .map(([[x, one], [before, other]]) => x + ((before - x) * (y - one)) / (other - one))
      .toSorted((one, other) => one - other);
    for (let at = 0; at < crossings.length; at += 2) {
      const [from, to] = crossings.slice(at, at + 2);
      for (let x = Math.floor(from); x < Math.ceil(to); x++)
        covered[Math.floor(y) * size + x] += (opacity * (Math.min(to, x + 1) - Math.max(from, x))) / LINES;
    }
  }
}

/** The corners of a path of M, h, H, v, V, a and z. */
function outline(d) {
  const corners = [];
  let [x, y] = [0, 0];
  for (const [, command, rest] of d.matchAll(/([MhHvVaz])([^MhHvVaz]*)/g)) {
    const numbers = rest.match(/-?[\d.]+/g)?.map(Number) ?? [];
    if (command === "M") [x, y] = numbers;
    else if (command === "h") x += numbers[0];
    else if (command === "H") x = numbers[0];
    else if (command === "v") y += numbers[0];
    else if (command === "V") y = numbers[0];
    else if (command === "a") {
      const [radius, , , , , dx, dy] = numbers;
      corners.push(...arc(x, y, dx, dy, radius));
      [x, y] = [x + dx, y + dy];
    }
    corners.push([x, y]);
  }
  return corners;
}

/** Points of a quarter of a circle, clockwise, which is how our corners are round. */
function arc(x, y, dx, dy, radius) {
  const far = Math.hypot(dx, dy);
  const aside = Math.sqrt(Math.max(radius ** 2 - far ** 2 / 4, 0)) / far;
  const [middleX, middleY] = [x + dx / 2 - dy * aside, y + dy / 2 + dx * aside];
  const begin = Math.atan2(y - middleY, x - middleX);
  return Array.from({ length: CHORDS }, (_, at) => {
    const angle = begin + ((at / CHORDS) * Math.PI) / 2;
    return [middleX + radius * Math.cos(angle), middleY + radius * Math.sin(angle)];
  });
}

function bytes(colour) {
  return [...Buffer.from(colour.slice(1), "hex")];
}

function chunk(name, content) {
  const named = Buffer.concat([Buffer.from(name), content]);
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(content.length);
  check.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, check]);
}
