// Numbers, times and durations as people read them. All times are UTC.

export const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

// 2026-11-22T14:05:00Z as "2026-11-22 14:05", with seconds if wanted.
export function time(text, seconds = false) {
  return text ? text.slice(0, seconds ? 19 : 16).replace("T", " ") : "–";
}

export const clock = (text) => text.slice(11, 16);

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 180) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

// The value for a field of type datetime-local.
export const asField = (date) => date.toISOString().slice(0, 16);

export function lastHours(hours) {
  const end = new Date();
  return { from: asField(new Date(end - hours * 3600_000)), to: asField(new Date(end.getTime() + 60_000)) };
}
