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
# the taste is a posterior of each item's chance to be chosen next. We ask whether these chances are right.

# %%
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse

from bayesdl import recommend as rec

# %% [markdown]
# ## Data whose law we know
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
# is small here. A blend adds standardised scores with weights chosen on the validation users.

# %%
settings = {"items": split.items}
popular = rec.Popularity().fit(split.train, split.validation, **settings)
ease = rec.EASE(l2=500.0).fit(split.train, split.validation, **settings)
vae = rec.MultVAE(hidden=(100,), latent=16, epochs=60, batch_size=100, progress=False)
vae.fit(split.train, split.validation, **settings)
blend = rec.Blend([vae, ease, popular]).fit(split.train, split.validation, **settings)
models = {"popularity": popular, "EASE": ease, "Mult-VAE": vae, "blend": blend}
print("blend of Mult-VAE, EASE and popularity:", blend.weights_)
print(f"beta {vae.beta_:.2f}, best epoch {vae.best_epoch_}, temperature {vae.temperature_:.2f}")
evaluation = rec.evaluate(models, split.test)
evaluation.table().round(3)

# %% [markdown]
# Standard errors are those of a mean over 400 users. They are wide, since users differ; but all recommenders were
# judged on the same users, and the mean of the *differences* has a much smaller error. So we compare in pairs.

# %%
pairs = {(a, b): evaluation.paired(a, b) for a, b in (("EASE", "popularity"), ("Mult-VAE", "EASE"), ("blend", "Mult-VAE"))}
for (a, b), said in pairs.items():
    print(f"{a} - {b}: {said['difference']:.4f} +- {said['se']:.4f}, p = {said['p']:.2g}")

# %% [markdown]
# Mult-VAE ranks better than EASE here, where the data are from a model of its kind. The blend adds nothing that these
# users could show.
#
# ## What a score means
#
# `recommend` gives probabilities: the chance of each item to be the next among those not seen,
#
# $$ p_i = E_{q(z \mid x)}\big[\mathrm{softmax}(f(z) / T)_i\big]. $$
#
# The temperature $T$ is fitted on validation users. A ranking does not need it, a probability does. Here we know the true
# chances, and compare them for all pairs of a test user and an unseen item.


# %%
def law(z, shown):
    """The true chances of the next item, in the columns of the split."""
    f = (z @ loadings[old].T + popularity[old])[:, split.items]
    p = np.where(shown.toarray() > 0, 0.0, np.exp(f))
    return p / p.sum(1, keepdims=True)


shown, hidden = split.test.fold_in, split.test.held_out.toarray()
truth = law(tastes[split.test.users], shown)
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
for name in ("popularity", "EASE", "Mult-VAE"):
    answer = models[name].recommend(shown, k=240)
    p, q = answer.probabilities.ravel(), np.take_along_axis(truth, place[answer.items], axis=1).ravel()
    groups = np.array_split(np.argsort(p), 20)
    ax.plot([p[g].mean() for g in groups], [q[g].mean() for g in groups], "o-", ms=3, label=name)
ax.plot([1e-4, 4e-2], [1e-4, 4e-2], "k--", lw=1, label="equal")
ax.set(xscale="log", yscale="log", xlabel="predicted chance, mean of 1/20 of the pairs", ylabel="true chance")
ax.legend()

# %% [markdown]
# Sums of probabilities are expected numbers: `expected_hits(n)` of a user's next n items in the list. The actual numbers
# are those of the hidden items. `hits_interval` says how far the number of a user may be off; hits are whole numbers, so
# intervals of the right law cover more than they promise. The last number is the coverage of the true chances of the 20
# items by their 90 % intervals.


# %%
def standard_error(values):
    """Of a mean over users."""
    return values.std(ddof=1) / np.sqrt(len(values))


n = hidden.sum(1).astype(int)
bias, cover, lacking, beyond_law = {}, {}, {}, {}
for name, model in models.items():
    answer = model.recommend(shown, k=20)
    columns = place[answer.items]
    hits, expected = np.take_along_axis(hidden, columns, axis=1).sum(1), answer.expected_hits(n)
    low, high = answer.hits_interval(n)
    chances = np.take_along_axis(truth, columns, axis=1)
    inside = ((answer.lower <= chances) & (chances <= answer.upper)).mean(1)
    bias[name] = (expected - hits).mean(), standard_error(expected - hits)
    cover[name] = inside.mean(), standard_error(inside), ((low <= hits) & (hits <= high)).mean()
    lacking[name] = expected - hits
    true_hits = n * chances.sum(1)
    beyond_law[name] = hits - true_hits
    print(f"{name:10s} hits {hits.mean():.2f}, true law {true_hits.mean():.2f}, expected {expected.mean():.2f}", end=", ")
    print(f"expected - hits {bias[name][0]:.2f} +- {bias[name][1]:.2f}")
    print(f"{'':10s} cover: hits {cover[name][2]:.2f}, chances {cover[name][0]:.2f} +- {cover[name][1]:.2f}")

# %% [markdown]
# The hits of EASE, Mult-VAE and the blend are those of the true law, within their errors; popularity's are somewhat
# fewer, as hidden items are no exact sample of the next one. Mult-VAE and the blend expect as many hits as there are,
# within three standard errors: their temperature was fitted so that this holds for the validation users. EASE expects too
# few, and `fit` warned of it: its scores are regressions, and no temperature makes log probabilities of them (the curve
# above).
#
# The intervals for single chances are too narrow for all. They know one source of uncertainty each: Mult-VAE the taste
# of the user, with the weights of the network taken as known; EASE its weights; popularity the shares of a population
# in which all are alike.
#
# ## What $\beta < 1$ does to the posterior
#
# Training maximises $E_q[\log p(x \mid z)] - \beta\, \mathrm{KL}(q \,\|\, p)$. Divided by $\beta$, this is the bound for
# the likelihood to the power $1 / \beta$: the encoder learns a posterior that counts each choice $1 / \beta$ times. It
# ranks well, and it is too sure. `likelihood_power=1` asks for the posterior of the model as written. The encoder does
# not know it, so each user's $q$ is optimised for some steps.

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
# An encoder answers for all users at once, and is not the best $q$ for each. The difference is the amortization gap;
# `refine_steps` closes it: above, the sd of z grew a little. One user's exact posterior is known: without any items it is
# the prior, whatever the power, and the recommender answers so without asking the encoder.

# %%
nobody = np.zeros((1, 300))
q = vae.posterior(nobody)
gap = (q.sd**2 + q.mean**2 - 1 - 2 * np.log(q.sd)).sum() / 2
print(f"without items: KL(q || prior) = {gap:.3f} nats")

# %% [markdown]
# ## A new user with 0, 1, 5 and 20 items
#
# 500 new users. We show their first items, and judge on their 21st to 30th. Intervals are summarised by the median of
# upper over lower end for the 20 recommended items.

# %%
newcomers = rng.normal(size=(500, 4))
sequence = place[choices(newcomers)]


def rows(columns):
    """Users with these items."""
    who = np.repeat(np.arange(len(columns)), columns.shape[1])
    return scipy.sparse.csr_array((np.ones(columns.size), (who, columns.ravel())), shape=(len(columns), 300))


cold, ratio, covered = {}, {}, {}
for count in (0, 1, 5, 20):
    held = rec.HeldOut(rows(sequence[:, :count]), rows(sequence[:, 20:30]))
    cold[count] = rec.evaluate(models, held)
    chances = law(newcomers, held.fold_in)
    for steps in (0, 200):
        answer = vae.recommend(held.fold_in, k=20, refine_steps=steps)
        p = np.take_along_axis(chances, place[answer.items], axis=1)
        inside = ((answer.lower <= p) & (p <= answer.upper)).mean(1)
        ratio[count, steps] = np.median(answer.upper / answer.lower)
        covered[count, steps] = inside.mean(), standard_error(inside)
    means = ", ".join(f"{name} {v['ndcg@100'].mean():.3f}" for name, v in cold[count].values.items())
    print(f"{count:2d} items: NDCG@100 {means}")
    for steps in (0, 200):
        share, se = covered[count, steps]
        print(f"   {steps:3d} steps: upper / lower {ratio[count, steps]:5.1f}, cover {share:.2f} +- {se:.2f}")
    for other in ("EASE", "popularity"):
        said = cold[count].paired("Mult-VAE", other)
        print(f"   Mult-VAE - {other}: {said['difference']:.4f} +- {said['se']:.4f}")

# %% [markdown]
# Intervals narrow as items come in. Without items popularity is a little ahead of Mult-VAE; EASE has no intercept, gives
# all items the score zero, and ranks by their column. With one item and more Mult-VAE is ahead of both. Intervals of
# chances hold less often than they say. Refinement goes on with training's power, which counts each choice many times: it
# widens them for users with one item, and narrows them with five and with 20. Whether to refine, validation users tell.
#
# One newcomer, and the eight items that are recommended to it in the end:

# %%
one = 0
best = place[vae.recommend(rows(sequence[[one], :20]), k=8, refine_steps=200).items[0, ::-1]]
fig, axes = plt.subplots(1, 4, figsize=(10, 3.2), sharex=True, sharey=True, layout="constrained")
for ax, count in zip(axes, (0, 1, 5, 20), strict=True):
    row = rows(sequence[[one], :count])
    answer = vae.recommend(row, k=280, refine_steps=200)
    at = [int(np.flatnonzero(place[answer.items[0]] == column)[0]) for column in best]
    p = answer.probabilities[0, at]
    ends = [p - answer.lower[0, at], answer.upper[0, at] - p]
    ax.errorbar(p, range(8), xerr=np.maximum(ends, 0), fmt="o", ms=4, capsize=2, label="predicted, 90 %")
    ax.plot(law(newcomers[[one]], row)[0, best], range(8), "k|", ms=12, label="true")
    ax.set(xscale="log", title=f"{count} items seen", xlabel="chance of the next item", yticks=[])
axes[0].set(ylabel="items")
fig.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize="small")

# %% [markdown]
# ## Exploring
#
# `strategy="thompson"` ranks by one draw of the posterior. Where the posterior is wide the lists of users differ; what is
# learned from them is worth the worse list of today. With "mean", users without items all get the same list.

# %%
explored = {}
for count in (0, 20):
    row = rows(sequence[:, :count])
    chances = law(newcomers, row)
    for strategy in ("mean", "thompson"):
        answer = vae.recommend(row, k=20, strategy=strategy, refine_steps=200)
        mass = np.take_along_axis(chances, place[answer.items], axis=1).sum(1)
        explored[count, strategy] = len(np.unique(answer.items)), mass
        lists = f"{explored[count, strategy][0]:3d} items in all lists"
        print(f"{count:2d} items, {strategy:8s} {lists}, true chance {mass.mean():.3f}")
cost = {count: explored[count, "mean"][1] - explored[count, "thompson"][1] for count in (0, 20)}
for count, loss in cost.items():
    print(f"{count:2d} items: exploring costs {loss.mean():.3f} +- {standard_error(loss):.3f} of the next choice")

# %% [markdown]
# ## New items
#
# Fitted with features of the items, the last layer of the decoder is around a linear function of them. `with_items` adds
# items that nobody has chosen, by their features alone. We compare the ranking of the 20 new items with their true
# chances, by Spearman's correlation for each test user; guessing has zero.

# %%
featured = rec.MultVAE(hidden=(100,), latent=16, epochs=60, batch_size=100, progress=False)
featured.fit(split.train, split.validation, item_features=features[split.items], **settings)
grown = featured.with_items(features[new], new)
wide = scipy.sparse.csr_array(scipy.sparse.hstack([shown, scipy.sparse.csr_array((400, 20))]))
ranking = grown.recommend(wide, k=20, candidates=new).items
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
assert all(pairs[pair]["difference"] > 2 * pairs[pair]["se"] for pair in (("EASE", "popularity"), ("Mult-VAE", "EASE")))
assert abs(pairs["blend", "Mult-VAE"]["difference"]) < 2 * pairs["blend", "Mult-VAE"]["se"]
assert all(abs(bias[name][0]) < 3 * bias[name][1] for name in ("Mult-VAE", "blend"))
assert bias["EASE"][0] < -3 * bias["EASE"][1]  # it expects too few
less = lacking["Mult-VAE"] - lacking["EASE"]
assert less.mean() > 3 * standard_error(less)  # EASE even fewer
assert all(abs(values.mean()) < 3 * standard_error(values) for name, values in beyond_law.items() if name != "popularity")
assert all(share + 3 * se < 0.9 for share, se, _ in cover.values())  # intervals of chances are too narrow
assert cover["Mult-VAE"][2] > 0.9
assert wider.mean() > 3 * standard_error(wider) and vae.beta_ < 1
assert gap == 0 and sharp.sd.mean() > trained.sd.mean()
assert ratio[0, 200] > ratio[1, 200] > ratio[5, 200] > ratio[20, 200]
change = {count: covered[count, 200][0] - covered[count, 0][0] for count in (1, 5, 20)}
error = {count: np.hypot(covered[count, 200][1], covered[count, 0][1]) for count in (1, 5, 20)}
assert change[1] > 2 * error[1] and all(change[count] < -3 * error[count] for count in (5, 20))
assert all(share + 3 * se < 0.9 for share, se in covered.values())
at_start = {other: cold[0].paired("Mult-VAE", other) for other in ("EASE", "popularity")}
assert at_start["popularity"]["difference"] < -2 * at_start["popularity"]["se"]
ahead = [cold[count].paired("Mult-VAE", other) for count in (1, 5, 20) for other in ("EASE", "popularity")]
assert all(said["difference"] > 2 * said["se"] for said in ahead)
assert at_start["EASE"]["difference"] > 3 * at_start["EASE"]["se"]
assert explored[0, "mean"][0] == 20 < explored[0, "thompson"][0]
assert all(loss.mean() > 3 * standard_error(loss) for loss in cost.values()) and cost[20].mean() < cost[0].mean()
assert correlation.mean() > 3 * standard_error(correlation)
assert (near - far).mean() > 3 * standard_error(near - far)
