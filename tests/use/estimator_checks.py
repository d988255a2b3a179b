"""Which of scikit-learn's checks of estimators are quick, and which are left out."""

from sklearn.utils.estimator_checks import estimator_checks_generator

# checks that refuse bad input or look at settings: they hardly fit anything
QUICK = {
    "check_estimator_cloneable",
    "check_no_attributes_set_in_init",
    "check_valid_tag_types",
    "check_mixin_order",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimators_unfitted",
    "check_estimators_empty_data_messages",
    "check_complex_data",
    "check_estimator_sparse_array",
    "check_fit1d",
    "check_fit2d_1sample",
}
SKIPPED = {"check_array_api_input"}  # needs array-api-compat and arrays of other libraries


def checks_of(estimator, quick, names=QUICK):
    """Yield the quick checks of an estimator, which have these names, or all others."""
    for instance, check in estimator_checks_generator(estimator, mark="skip"):
        if (check.func.__name__ in names) == quick and check.func.__name__ not in SKIPPED:
            yield instance, check
