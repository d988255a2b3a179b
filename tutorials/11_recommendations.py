# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Recommendations with uncertainty
#
# The data are users and the items they chose. A *row* is one user: ones at the items chosen, and nothing elsewhere. A
# missing entry is no dislike; mostly the item was never looked at. Mult-VAE (Liang et al. 2018, arXiv:1802.05814)
# explains a row by a latent taste,
#
# $$ z_u \sim N(0, I), \qquad x_u \mid z_u \sim \mathrm{Multinomial}\big(N_u, \mathrm{softmax}\, f(z_u)\big), $$
#
# with a network $f$, and an encoder that gives $q(z_u \mid x_u)$ at once for any row, of a new user too. A posterior of
# the taste is a posterior of each item's probability to be chosen next. We ask whether these probabilities are right.

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse

import bayesdl as bdl
from bayesdl import recommend as rec

# %% [markdown]
# ## Data whose distribution we know
#
# 2,400 users with tastes $z \sim N(0, I_4)$; 300 items, and 20 more that come out later. Each has a popularity $b_i$ and
# a loading $v_i$, which depend on six features of the item in part. A user chooses $N_u$ items without replacement, each
# time by the softmax of $f_i = v_i^\top z + b_i$ over what is left. Adding Gumbel noise to $f$ and sorting draws the whole
# sequence.

# %%
rng = np.random.default_rng(0)
features = rng.normal(size=(320, 6))
loadings = features @ rng.normal(size=(6, 4)) * 0.35 + 0.4 * rng.normal(size=(320, 4))
popularity = features @ rng.normal(size=6) * 0.3 + 0.6 * rng.normal(size=320)
old, new = np.arange(300), np.arange(300, 320)


def choices(z):
    """The old items of each user in the order in which they would be chosen."""
    f = z @ loadings[old].T + popularity[old]
    return np.argsort(-(f + rng.gumbel(size=f.shape)), axis=1)


tastes = rng.normal(size=(2400, 4))
counts = np.minimum(5 + rng.geometric(1 / 20, size=2400), 60)
users = np.repeat(np.arange(2400), counts)
items = np.concatenate([order[:n] for order, n in zip(choices(tastes), counts, strict=True)])

# %% [markdown]
# ## The strong split
#
# Test users are new: none of their choices is trained on. The model is shown 80 % of a test user's items, the *fold-in*,
# and must find the other 20 %. Validation users are split likewise; they choose the epoch, $\beta$ and a temperature.

# %%
split = rec.strong_split(users, items, held_out=(400, 400))
place = np.empty(300, int)
place[split.items] = np.arange(300)  # the column of each item
split

# %% [markdown]
# ## Four recommenders
#
# Popularity is the same for all users. EASE is a linear regression of each item on all others, in closed form. Mult-VAE
# is small here. A blend is a logarithmic pool, the product of its members' distributions to powers that are chosen on the validation
# users.

# %%
popular = rec.Popularity().fit(split.train, split.validation)
ease = rec.EASE(l2=500.0).fit(split.train, split.validation)
vae = rec.MultVAE(hidden=(100,), latent=16, epochs=60, batch_size=100, progress=False)
vae.fit(split.train, split.validation)
blend = rec.Blend([vae, ease, popular]).fit(split.train, split.validation)
models = {"popularity": popular, "EASE": ease, "Mult-VAE": vae, "blend": blend}
print("blend of Mult-VAE, EASE and popularity:", blend.weights_)
print(f"beta {vae.beta_:.2f}, best epoch {vae.best_epoch_}, temperature {vae.temperature_:.2f}")
evaluation = rec.evaluate(models, split.test)
evaluation.table().round(3)

# %% [markdown]
# Standard errors are those of a mean over 400 users. They are wide, since users differ; but all recommenders were
# judged on the same users, and the mean of the *differences* has a much smaller error. So we compare in pairs.

# %%
pairs = {
    (a, b): evaluation.paired(a, b)
    for a, b in (("EASE", "popularity"), ("Mult-VAE", "EASE"), ("blend", "Mult-VAE"))
}
for (a, b), said in pairs.items():
    print(f"{a} - {b}: {said['difference']:.4f} +- {said['se']:.4f}, p = {said['p']:.2g}")

# %% [markdown]
# Mult-VAE ranks better than EASE here, where the data are from a model of its kind. The blend adds nothing that these
# users could show.
#
# ## What a score means
#
# `recommend` gives probabilities: the probability of each item to be the next among those not seen,
#
# $$ p_i = E_{q(z \mid x)}\big[\mathrm{softmax}(f(z) / T)_i\big]. $$
#
# (EASE's score predicts linearly whether a user has an item; its probabilities are in proportion to the scores to the power $1 / T$.)
# The temperature $T$ is fitted on validation users. The ranking above did not need it, a probability does. Here we know the
# true probabilities, and compare them for all pairs of a test user and an unseen item.


# %%
def true_probabilities(z, shown):
    """The true probabilities of the next item, in the columns of the split."""
    f = (z @ loadings[old].T + popularity[old])[:, split.items]
    p = np.where(shown.toarray() > 0, 0.0, np.exp(f))
    return p / p.sum(1, keepdims=True)


shown, hidden = split.test.fold_in, split.test.held_out.toarray()
truth = true_probabilities(tastes[split.test.users], shown)
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
for name in ("popularity", "EASE", "Mult-VAE"):
    answer = models[name].recommend(shown, k=240)
    p, q = (
        answer.probabilities.ravel(),
        np.take_along_axis(truth, place[answer.items], axis=1).ravel(),
    )
    groups = np.array_split(np.argsort(p), 20)
    ax.plot([p[g].mean() for g in groups], [q[g].mean() for g in groups], "o-", ms=3, label=name)
ax.plot([1e-4, 4e-2], [1e-4, 4e-2], "k--", lw=1, label="equal")
ax.set(
    xscale="log",
    yscale="log",
    xlabel="predicted probability, mean of 1/20 of the pairs",
    ylabel="true probability",
)
ax.legend()

# %% [markdown]
# `expected_hits(n)` is how many items of the list are expected among a user's next n. These are different items: one by one
# they come from the distribution of the next item, those that came left out. Item i is among them with probability $1 - e^{-t p_i}$, where
# $t$ is such that these probabilities, of all items, have the sum n. The temperature was fitted so that among the best 20 of the
# validation users as many hits are expected as there are. `hits_interval` is the shortest interval that the hits of a user are
# in with a probability of at least 90 %.
#
# Knowing the distribution, we also draw each test user's next n items (`drawn`), and put the true probabilities into the formula. The last
# numbers are of single probabilities: the sum over the list, said and true, and the coverage of the true probabilities by their 90 %
# intervals.


# %%
def standard_error(values):
    """Of a mean over users."""
    return values.std(ddof=1) / np.sqrt(len(values))


def among(p, n):
    """The formula's probability of each item to be among the next n, from the distribution of the next item; Newton's method for t."""
    t = n[:, None].astype(float)
    for _ in range(30):
        t = t + (n[:, None] - (1 - np.exp(-t * p)).sum(1, keepdims=True)) / (
            p * np.exp(-t * p)
        ).sum(1, keepdims=True)
    return 1 - np.exp(-t * p)


n = hidden.sum(1).astype(int)
f = np.where(truth > 0, np.log(np.maximum(truth, 1e-300)), -np.inf)
noise = np.random.default_rng(1).gumbel(size=(20, *f.shape))
following = (np.argsort(np.argsort(-(f + noise), axis=2), axis=2) < n[:, None]).mean(
    0
)  # among the next n
bias, cover, said_true, drawn_hits, formula, actual = {}, {}, {}, {}, {}, {}
for name, model in models.items():
    answer = model.recommend(shown, k=20)
    columns = place[answer.items]
    hits, expected = np.take_along_axis(hidden, columns, axis=1).sum(1), answer.expected_hits(n)
    low, high = answer.hits_interval(n)
    probabilities = np.take_along_axis(truth, columns, axis=1)
    inside = ((answer.lower <= probabilities) & (probabilities <= answer.upper)).mean(1)
    actual[name] = hits
    bias[name] = (expected - hits).mean(), standard_error(expected - hits)
    cover[name] = inside.mean(), standard_error(inside), (low <= hits) & (hits <= high)
    drawn_hits[name] = np.take_along_axis(following, columns, axis=1).sum(1)
    formula[name] = np.take_along_axis(among(truth, n), columns, axis=1).sum(1)
    said_true[name] = answer.probabilities.sum(1) - probabilities.sum(1)
    print(f"{name:10s} hits {hits.mean():.2f}, expected {expected.mean():.2f}", end=", ")
    print(f"expected - hits {bias[name][0]:.2f} +- {bias[name][1]:.2f}", end="; ")
    print(
        f"true distribution: drawn {drawn_hits[name].mean():.2f}, formula {formula[name].mean():.2f}"
    )
    print(
        f"{'':10s} hits in their intervals {cover[name][2].mean():.2f} +- {standard_error(cover[name][2]):.2f}",
        end="; ",
    )
    print(
        f"probabilities: sum {answer.probabilities.sum(1).mean():.3f}, true {probabilities.sum(1).mean():.3f}",
        end=", ",
    )
    print(
        f"difference {said_true[name].mean():.3f} +- {standard_error(said_true[name]):.3f}",
        end=", ",
    )
    print(f"cover {cover[name][0]:.2f} +- {cover[name][1]:.2f}")

# %% [markdown]
# From the true distribution, the formula gives what drawing gives. The recommenders expect about the hits that there are; the error of
# their temperatures, from 400 validation users, comes on top of the errors printed. Mult-VAE's and the blend's probabilities have
# about the right sum over their lists. (What was hidden is a random part of all that a user chose, not the next items, and has
# a few hits more than those would; where times are known, `strong_split(..., times=...)` hides the last items instead.) The
# intervals of hits hold as they say, more often than 90 %, as hits are whole numbers. Those of popularity do so on average over
# all users, not for each kind of user; of that `fit` warned, which looks at validation users.
#
# Intervals of *single probabilities* hold far less often than they say, for all. They know one source of uncertainty each:
# Mult-VAE the taste of the user, with the weights of the network taken as known; EASE its weights; popularity the shares of
# a population in which all are alike.
#
# ## What $\beta < 1$ does to the posterior
#
# Training maximises $E_q[\log p(x \mid z)] - \beta\, \mathrm{KL}(q \,\|\, p)$. Divided by $\beta$, this is the bound for
# the likelihood to the power $1 / \beta$: the encoder learns a posterior that counts each choice $1 / \beta$ times. It
# ranks well, and claims to know more than it does. `likelihood_power=1` asks for the posterior of the model as written. The
# encoder does not know it, so each user's $q$ is optimised for some steps.

# %%
trained = vae.posterior(shown)
sharp = vae.posterior(shown, refine_steps=300)
plain = vae.posterior(shown, refine_steps=300, likelihood_power=1)
for name, q in (("encoder", trained), ("refined", sharp), ("refined, power 1", plain)):
    print(f"{name:17s} power {q.likelihood_power[0]:.2f}, mean sd of z {q.sd.mean():.3f}")
wider = (plain.sd - sharp.sd).mean(1)

# %% [markdown]
# ## The amortization gap
#
# An encoder answers for all users at once, and is not the best $q$ for each. The difference is the amortization gap, which
# `refine_steps` is there to narrow: with training's power the sd of z grew a little, with power 1 far more. The model is a
# NumPyro program too, `rec.programs`, so that NUTS can sample the exact posterior of z given the decoder. We do so for six test
# users, at power 1, and take the distance of the means in units of the exact sd, and the ratio of the sds.

# %%
six = shown[:6]
program, guide = rec.programs(vae, six, likelihood_power=1)
exact = bdl.fit(
    program, engine=bdl.NUTS(num_warmup=500, num_samples=1000, num_chains=2), progress=False
)
draws = exact.samples["z"].reshape(-1, 6, 16)
away, narrow = {}, {}
for name, how in (
    ("encoder", {}),
    ("refined, power 1", {"refine_steps": 300, "likelihood_power": 1}),
):
    q = vae.posterior(six, **how)
    away[name] = np.abs(q.mean - draws.mean(0)) / draws.std(0)
    narrow[name] = q.sd / draws.std(0)
    print(
        f"{name:17s} means are {away[name].mean():.2f} sd away, sds {narrow[name].mean():.2f} times the exact ones"
    )

# %% [markdown]
# One user's exact posterior is known without sampling: without any items it is the prior, whatever the power. The recommender
# answers so without asking the encoder, so there is no gap to narrow, and refinement changes nothing.

# %%
nobody = np.zeros((1, 300))
q = vae.posterior(nobody)
gap = (q.sd**2 + q.mean**2 - 1 - 2 * np.log(q.sd)).sum() / 2
print(f"without items: KL(q || prior) = {gap:.3f} nats")

# %% [markdown]
# ## A new user with 0, 1, 5 and 20 items
#
# 500 new users. We show their first items, and judge on their 21st to 30th. Mult-VAE answers in three ways: by its encoder,
# refined at training's power, and refined with `likelihood_power=1`, each with its own temperature. Of the 20 recommended
# items we print the median of upper over lower end of the intervals, the coverage, and the sum of the probabilities, true and said;
# in brackets, what changes against the encoder, paired by user.

# %%
newcomers = rng.normal(size=(500, 4))
sequence = place[choices(newcomers)]


def rows(columns):
    """Users with these items."""
    who = np.repeat(np.arange(len(columns)), columns.shape[1])
    return scipy.sparse.csr_array(
        (np.ones(columns.size), (who, columns.ravel())), shape=(len(columns), 300)
    )


ways = {
    "encoder": {},
    "refined": {"refine_steps": 200},
    "refined, power 1": {"refine_steps": 200, "likelihood_power": 1},
}
calibrated = {way: copy.copy(vae) for way in ways}
for way, how in ways.items():
    calibrated[way].calibrate(split.validation, **how)
cold, ratio, covered, mass, said_sum = {}, {}, {}, {}, {}
for count in (0, 1, 5, 20):
    held = rec.HeldOut(rows(sequence[:, :count]), rows(sequence[:, 20:30]))
    cold[count] = rec.evaluate(models, held)
    probabilities = true_probabilities(newcomers, held.fold_in)
    means = ", ".join(
        f"{name} {v['ndcg@100'].mean():.3f}" for name, v in cold[count].values.items()
    )
    print(f"{count:2d} items: NDCG@100 {means}")
    for other in ("EASE", "popularity"):
        said = cold[count].paired("Mult-VAE", other)
        print(f"   Mult-VAE - {other}: {said['difference']:.4f} +- {said['se']:.4f}")
    for way, how in ways.items():
        answer = calibrated[way].recommend(held.fold_in, k=20, **how)
        p = np.take_along_axis(probabilities, place[answer.items], axis=1)
        mass[count, way] = p.sum(1)
        covered[count, way] = ((answer.lower <= p) & (p <= answer.upper)).mean(1)
        ratio[count, way] = np.median(answer.upper / answer.lower)
        said_sum[count, way] = answer.probabilities.sum(1)
        share, more = covered[count, way], covered[count, way] - covered[count, "encoder"]
        gain = mass[count, way] - mass[count, "encoder"]
        print(f"   {way:16s} upper / lower {ratio[count, way]:5.1f}", end=", ")
        print(f"cover {share.mean():.2f} +- {standard_error(share):.2f}", end="")
        print(
            f" ({more.mean():+.2f} +- {standard_error(more):.2f}), true sum {mass[count, way].mean():.3f}",
            end="",
        )
        print(
            f" ({gain.mean():+.4f} +- {standard_error(gain):.4f}), said {said_sum[count, way].mean():.3f}"
        )

# %% [markdown]
# Without items popularity is a little ahead of Mult-VAE; EASE has no intercept, gives all items the score zero, and ranks by
# their column. With one item and more Mult-VAE is ahead of both.
#
# Intervals narrow as items come in, and those of the encoder hold less often than they say. Refinement at training's power,
# which counts each choice many times, is no help: the lists get worse with one, five and 20 items, and the intervals, though
# better with one item, get worse with five and 20. `likelihood_power=1` is what intervals need: they are much wider, and hold
# about as often as they say, or more, with one, five and 20 items, at a small cost to the lists.
#
# A temperature belongs to the way in which the answers are made: `fit` fits that of the encoder's, and
# `calibrate(validation, refine_steps=..., likelihood_power=...)` that of others. Of users without any item all three say too
# little (the sum of the probabilities is far below the true one): their tastes are draws of the prior, and a decoder that was trained
# with $\beta < 1$ has not learned what all of these mean.
#
# One newcomer, with power 1, and the eight items that are recommended to it in the end:

# %%
one = 0
wide, how = calibrated["refined, power 1"], ways["refined, power 1"]
best = place[wide.recommend(rows(sequence[[one], :20]), k=8, **how).items[0, ::-1]]
fig, axes = plt.subplots(1, 4, figsize=(10, 3.2), sharex=True, sharey=True, layout="constrained")
for ax, count in zip(axes, (0, 1, 5, 20), strict=True):
    row = rows(sequence[[one], :count])
    answer = wide.recommend(row, k=280, **how)
    at = [int(np.flatnonzero(place[answer.items[0]] == column)[0]) for column in best]
    p = answer.probabilities[0, at]
    ends = [p - answer.lower[0, at], answer.upper[0, at] - p]
    ax.errorbar(
        p, range(8), xerr=np.maximum(ends, 0), fmt="o", ms=4, capsize=2, label="predicted, 90 %"
    )
    ax.plot(true_probabilities(newcomers[[one]], row)[0, best], range(8), "k|", ms=12, label="true")
    ax.set(
        xscale="log", title=f"items seen: {count}", xlabel="probability of the next item", yticks=[]
    )
axes[0].set(ylabel="items")
fig.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize="small")

# %% [markdown]
# ## Exploring
#
# `strategy="thompson"` ranks by one draw of the posterior. Where the posterior is wide the lists of users differ, at
# the price of a worse list today. With "mean", users without items all get the same list.

# %%
explored = {}
for count in (0, 20):
    row = rows(sequence[:, :count])
    probabilities = true_probabilities(newcomers, row)
    for strategy in ("mean", "thompson"):
        answer = vae.recommend(row, k=20, strategy=strategy)
        chosen = np.take_along_axis(probabilities, place[answer.items], axis=1).sum(1)
        explored[count, strategy] = len(np.unique(answer.items)), chosen
        lists = f"{explored[count, strategy][0]:3d} items in all lists"
        print(f"{count:2d} items, {strategy:8s} {lists}, true probability {chosen.mean():.3f}")
cost = {count: explored[count, "mean"][1] - explored[count, "thompson"][1] for count in (0, 20)}
for count, loss in cost.items():
    print(
        f"{count:2d} items: exploring costs {loss.mean():.3f} +- {standard_error(loss):.3f} of the next choice"
    )

# %% [markdown]
# ## New items
#
# Fitted with features of the items, the last layer of the decoder is around a linear function of them. `with_items` adds
# items that nobody has chosen, by their features alone. We compare the ranking of the 20 new items with their true
# probabilities, by Spearman's correlation for each test user; guessing has zero.

# %%
featured = rec.MultVAE(hidden=(100,), latent=16, epochs=60, batch_size=100, progress=False)
featured.fit(split.train, split.validation, item_features=features[split.items])
grown = featured.with_items(features[new], new)
longer = scipy.sparse.csr_array(scipy.sparse.hstack([shown, scipy.sparse.csr_array((400, 20))]))
ranking = grown.recommend(longer, k=20, candidates=new).items
f = tastes[split.test.users] @ loadings[new].T + popularity[new]
true_ranks = np.argsort(np.argsort(-f, axis=1), axis=1)
got = np.take_along_axis(true_ranks, ranking - 300, axis=1)
correlation = np.array([np.corrcoef(np.arange(20), ranks)[0, 1] for ranks in got])
print(f"rank correlation {correlation.mean():.2f} +- {standard_error(correlation):.2f} over users")

# %% [markdown]
# The users share the same 20 items, so this error is of the mean over users, for these items.
#
# ## Similar items
#
# `similar_items` compares what the decoder has learned of each item. Here the loadings are the truth: we take the true
# cosine of each item with its five neighbours, and with all others.

# %%
directions = loadings / np.linalg.norm(loadings, axis=1, keepdims=True)
cosines = directions @ directions.T
near = np.array([cosines[item, vae.similar_items(item, k=5)[0]].mean() for item in old])
far = np.array([np.delete(cosines[item, old], item).mean() for item in old])
print(vae.similar_items(7, k=3))
print(f"true cosine with five neighbours {near.mean():.2f}, with all others {far.mean():.2f}")

# %% [markdown]
# ## Exercises
#
# - Fit `MultVAE(beta=1.0)`. What do ranking, expected hits and coverage say?
# - Simulate users whose tastes are two clusters, and compare `prior="vamp"` with `prior="normal"`.
# - Set `loadings` to zero. Which recommender should win, and does it?

# %% tags=["check"]
assert all(
    pairs[pair]["difference"] > 2 * pairs[pair]["se"]
    for pair in (("EASE", "popularity"), ("Mult-VAE", "EASE"))
)
assert abs(pairs["blend", "Mult-VAE"]["difference"]) < 2 * pairs["blend", "Mult-VAE"]["se"]
assert all(
    abs(mean) < 2 * np.sqrt(2) * se for mean, se in bias.values()
)  # two samples of 400 users


def above(values, errors=3):
    """Whether the mean over users is above zero, by so many standard errors."""
    return values.mean() > errors * standard_error(values)


assert all(abs(formula[name].mean() / drawn_hits[name].mean() - 1) < 0.02 for name in models)
for name in ("Mult-VAE", "blend"):
    assert abs(said_true[name].mean()) < 2 * np.sqrt(2) * standard_error(said_true[name])
    assert above(actual[name] - drawn_hits[name])  # what is hidden is not what comes next
assert not any(above(0.9 - held) for _, _, held in cover.values())
assert all(
    share + 3 * se < 0.9 for share, se, _ in cover.values()
)  # intervals of probabilities hold too seldom
assert (
    vae.beta_ < 1
    and above((sharp.sd - trained.sd).mean(1))
    and above((plain.sd - sharp.sd).mean(1))
)
assert away["refined, power 1"].mean() < away["encoder"].mean()
assert narrow["encoder"].mean() < narrow["refined, power 1"].mean() < 1
assert gap == 0 and not vae.posterior(nobody, refine_steps=200, likelihood_power=1).mean.any()
assert all(above(mass[0, way] - said_sum[0, way]) for way in ways)  # too flat
assert all(ratio[0, way] > ratio[1, way] > ratio[5, way] > ratio[20, way] for way in ways)
assert all(above(0.9 - covered[count, "encoder"]) for count in (0, 1, 5, 20))
for count in (1, 5, 20):
    refined, wide_way = (count, "refined"), (count, "refined, power 1")
    assert above(
        mass[count, "encoder"] - mass[refined]
    )  # training's power: worse lists, and intervals but for one item
    assert above((covered[refined] - covered[count, "encoder"]) * (1 if count == 1 else -1))
    assert ratio[wide_way] > 2 * ratio[count, "encoder"] and above(
        covered[wide_way] - covered[count, "encoder"]
    )
    assert above(mass[wide_way] - mass[refined])
    assert covered[wide_way].mean() > 0.85
at_start = {other: cold[0].paired("Mult-VAE", other) for other in ("EASE", "popularity")}
assert at_start["popularity"]["difference"] < -2 * at_start["popularity"]["se"]
ahead = [
    cold[count].paired("Mult-VAE", other)
    for count in (1, 5, 20)
    for other in ("EASE", "popularity")
]
assert all(said["difference"] > 2 * said["se"] for said in ahead)
assert explored[0, "mean"][0] == 20 < explored[0, "thompson"][0]
assert all(above(loss) for loss in cost.values()) and cost[20].mean() < cost[0].mean()
assert above(correlation)
assert above(near - far)
