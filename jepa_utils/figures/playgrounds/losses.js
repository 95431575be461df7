// The package's penalties for points [[x, y], ...] in the plane, each with its gradient: jepa_utils.objectives by hand.

// T of one shadow, as `epps_pulley` has it: 17 knots on [-5, 5], of which the positive ones count twice. `slope`
// receives dT/du.
const KNOTS = 17, T_MAX = 5, KNOT_STEP = 2 * T_MAX / (KNOTS - 1);

function eppsPulley(shadow, slope = null) {
  const n = shadow.length, half = (KNOTS - 1) / 2, cosines = new Float64Array(n), sines = new Float64Array(n);
  let value = 0;
  if (slope) slope.fill(0);
  for (let k = 1; k <= half; k++) {
    const t = k * KNOT_STEP, bell = Math.exp(-t * t / 2), weight = (k === half ? 1 : 2) * KNOT_STEP * bell;
    let real = 0, imaginary = 0;
    for (let i = 0; i < n; i++) {
      real += cosines[i] = Math.cos(t * shadow[i]);
      imaginary += sines[i] = Math.sin(t * shadow[i]);
    }
    const gap = real / n - bell;
    imaginary /= n;
    value += weight * (gap * gap + imaginary * imaginary);
    if (slope) for (let i = 0; i < n; i++) slope[i] += 2 * weight * t * (imaginary * cosines[i] - gap * sines[i]);
  }
  return n * value;
}

function shadowOf(points, angle) {
  const c = Math.cos(angle), s = Math.sin(angle);
  return Float64Array.from(points, ([x, y]) => c * x + s * y);
}

// Mean of cos(t u) and of sin(t u): the characteristic function of a shadow.
function characteristic(shadow, t) {
  let real = 0, imaginary = 0;
  for (const u of shadow) { real += Math.cos(t * u); imaginary += Math.sin(t * u); }
  return [real / shadow.length, imaginary / shadow.length];
}

function moments(points) {
  const n = points.length, mean = [0, 1].map((d) => points.reduce((sum, p) => sum + p[d], 0) / n);
  const centred = points.map(([x, y]) => [x - mean[0], y - mean[1]]);
  const covariance = (a, b) => centred.reduce((sum, p) => sum + p[a] * p[b], 0) / (n - 1);
  return { mean, centred, xx: covariance(0, 0), xy: covariance(0, 1), yy: covariance(1, 1) };
}

// The mean squared distance from the mean, per coordinate: what predicting without looking gets wrong.
function pull(points) {
  const { centred } = moments(points), size = 2 * points.length;
  return {
    value: centred.reduce((sum, [x, y]) => sum + x * x + y * y, 0) / size,
    gradient: centred.map(([x, y]) => [2 * x / size, 2 * y / size]),
  };
}

// SIGReg over directions evenly spread over the half circle, instead of random ones: a picture should stand still.
function sigreg(points, slices = 64) {
  const gradient = points.map(() => [0, 0]), slope = new Float64Array(points.length);
  let value = 0;
  for (let j = 0; j < slices; j++) {
    const angle = Math.PI * j / slices, c = Math.cos(angle) / slices, s = Math.sin(angle) / slices;
    value += eppsPulley(shadowOf(points, angle), slope) / slices;
    gradient.forEach((g, i) => { g[0] += c * slope[i]; g[1] += s * slope[i]; });
  }
  return { value, gradient };
}

function variancePenalty(points) {
  const { centred, xx, yy } = moments(points), spread = [xx, yy].map((v) => Math.sqrt(v + 1e-4));
  const factor = spread.map((s) => (s < 1 ? -1 / (2 * s * (points.length - 1)) : 0));
  return {
    value: spread.reduce((sum, s) => sum + Math.max(0, 1 - s), 0) / 2,
    gradient: centred.map(([x, y]) => [factor[0] * x, factor[1] * y]),
  };
}

function covariancePenalty(points) {
  const { centred, xy } = moments(points), factor = 2 * xy / (points.length - 1);
  return { value: xy * xy, gradient: centred.map(([x, y]) => [factor * y, factor * x]) };
}

// VISReg's terms. In the shape term the standard deviations count as constants.
const FLOOR = 1e-6;

function populationMoments(points) {
  const { mean, centred, xx, yy } = moments(points), share = (points.length - 1) / points.length;
  return { mean, centred, spread: [xx, yy].map((v) => Math.sqrt(share * v)) };
}

function scaleTerm(points) {
  const { centred, spread } = populationMoments(points), n = points.length;
  const factor = spread.map((s) => (s > 0 ? -(1 - s) / (n * s) : 0));
  return {
    value: spread.reduce((sum, s) => sum + (1 - s) * (1 - s), 0) / 2,
    gradient: centred.map(([x, y]) => [factor[0] * x, factor[1] * y]),
  };
}

function centerTerm(points) {
  const { mean } = moments(points);
  return { value: (mean[0] * mean[0] + mean[1] * mean[1]) / 2, gradient: points.map(() => mean.map((m) => m / points.length)) };
}

// Of the standard normal at p: Newton's method from 0, where it does not overshoot, on a series for the integral.
function quantile(p) {
  if (p < 0.5) return -quantile(1 - p);
  let x = 0;
  for (let step = 0; step < 20; step++) {
    let term = x, sum = x;
    for (let k = 3; k < 200; k += 2) sum += term *= x * x / k;
    const bell = Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
    x -= (0.5 + bell * sum - p) / bell;
  }
  return x;
}

const quantilesOf = {};

function shapeTerm(points, slices = 64) {
  const n = points.length, { centred, spread } = populationMoments(points), size = spread.map((s) => Math.max(s, FLOOR));
  const targets = quantilesOf[n] ||= Array.from({ length: n }, (_, i) => quantile((i + 1) / (n + 1)));
  const round = centred.map(([x, y]) => [x / size[0], y / size[1]]), gradient = points.map(() => [0, 0]), share = 1 / (n * slices);
  let value = 0;
  for (let j = 0; j < slices; j++) {
    const angle = Math.PI * j / slices, shadow = shadowOf(round, angle);
    const order = points.map((_, i) => i).sort((a, b) => shadow[a] - shadow[b]);
    order.forEach((i, rank) => {
      const gap = shadow[i] - targets[rank];
      value += share * gap * gap;
      gradient[i][0] += 2 * share * gap * Math.cos(angle) / size[0];
      gradient[i][1] += 2 * share * gap * Math.sin(angle) / size[1];
    });
  }
  // Moving one point moves the mean, too.
  const mean = [0, 1].map((d) => gradient.reduce((sum, g) => sum + g[d], 0) / n);
  return { value, gradient: gradient.map((g) => [g[0] - mean[0], g[1] - mean[1]]) };
}

// Every penalty is a sum of terms with factors. `curvature` is about how steeply its gradient changes for N points: steps
// of descent are sized by it. A new penalty is one line here, and its key in the data of the playground.
const LOSSES = {
  sigreg: { label: "SIGReg", terms: [[1, "sigreg", sigreg]], curvature: () => 2 },
  vicreg: {
    label: "VICReg: 25 × variance + covariance",
    terms: [[25, "variance", variancePenalty], [1, "covariance", covariancePenalty]],
    curvature: (n) => 50 / n,
  },
  visreg: {
    label: "VISReg: scale + shape + center",
    terms: [[1, "scale", scaleTerm], [1, "shape", shapeTerm], [1, "center", centerTerm]],
    curvature: (n) => 2 / n,
  },
};

// A loss = pull + lambda * penalty, and its gradient.
function lossOf(points, key, lambda) {
  const towards = pull(points), parts = {};
  let penalty = 0;
  const gradient = points.map(() => [0, 0]);
  for (const [factor, name, of] of LOSSES[key].terms) {
    const part = of(points);
    parts[name] = part.value;
    penalty += factor * part.value;
    gradient.forEach((g, i) => { g[0] += factor * part.gradient[i][0]; g[1] += factor * part.gradient[i][1]; });
  }
  const total = gradient.map((g, i) => [0, 1].map((d) => towards.gradient[i][d] + lambda * g[d]));
  return { pull: towards.value, penalty, parts, total: towards.value + lambda * penalty, gradient: total, penaltyGradient: gradient };
}

// One step of gradient descent, short enough for this loss. Returns the new points and how far the farthest went.
function descend(points, key, lambda, rate = 0.3) {
  const { gradient } = lossOf(points, key, lambda);
  const size = rate / (1 / points.length + lambda * LOSSES[key].curvature(points.length));
  let farthest = 0;
  const moved = points.map(([x, y], i) => {
    const far = size * Math.hypot(...gradient[i]), cut = far > 0.5 ? 0.5 / far : 1;
    farthest = Math.max(farthest, far * cut);
    return [x - size * cut * gradient[i][0], y - size * cut * gradient[i][1]];
  });
  return { points: moved, farthest };
}
