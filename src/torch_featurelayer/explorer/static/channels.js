// The channels of a layer over a dataset: which of them are listed, and in which order.

/** The numbers of the channels that a filter leaves, ordered by a column; the largest first, but for the number. */
export function listChannels(arrays, sort, filter) {
  const count = arrays.mean.shape[0];
  const keeps = parse(filter);
  const numbers = [];
  for (let channel = 0; channel < count; channel++) if (keeps.every((keep) => keep(arrays, channel))) numbers.push(channel);
  if (sort === "index") return numbers;
  const values = arrays[sort].values;
  const value = (channel) => (Number.isNaN(values[channel]) ? -Infinity : values[channel]);
  return numbers.sort((one, other) => value(other) - value(one) || one - other);
}

export const marks = { dead: 1, outlier: 2, "not finite": 4 };
const columns = ["mean", "std", "min", "max", "zeros", "kurtosis"];

/** What a filter asks of a channel: its number, a mark, or a comparison such as `max > 3`; an unknown part keeps nothing. */
function parse(filter) {
  const text = filter.trim().toLowerCase().replace(/\s*([<>])\s*/g, "$1").replace("not finite", "not-finite");
  return text.split(/[\s,]+/).filter(Boolean).map((part) => {
    const [, column, sign, limit] = /^([a-z]+)([<>])(-?[\d.]+(?:e-?\d+)?)$/.exec(part) ?? [];
    if (columns.includes(column)) {
      return (arrays, channel) => (sign === ">" ? arrays[column].values[channel] > limit : arrays[column].values[channel] < limit);
    }
    if (/^\d+$/.test(part)) return (_, channel) => channel === Number(part);
    const mark = marks[part.replace("-", " ").replace(/s$/, "")];
    return mark ? (arrays, channel) => Boolean(arrays.marks.values[channel] & mark) : () => false;
  });
}

/** The marks of a channel as words. */
export function marksOf(arrays, channel) {
  return Object.keys(marks).filter((name) => arrays.marks.values[channel] & marks[name]);
}
