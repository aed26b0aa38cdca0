/*
 * encoder.c - makes an encoder from a scheme and a method
 */
#include "encoder.h"
#include "candidates.h"
#include "../packed/scheme.h"

void qz_encoder_make(struct qz_encoder *encoder, struct qz_view *view, const qz_scheme *scheme, qz_method method,
                     qz_dtype values)
{
    encoder->view = view;
    encoder->method = method == QZ_DEFAULT ? scheme->method : method;
    view->grid = qz_scheme_grid(scheme, encoder->method);
    encoder->fit = qz_scheme_fit(scheme, encoder->method, &view->grid);
    encoder->positive = scheme->positive || qz_is_unsigned_float(scheme->scale_dtype);
    encoder->nonfinite = QZ_REFUSE;
    encoder->weights = NULL;
    encoder->rule = scheme->rule;
    encoder->reference = encoder->method == QZ_REFERENCE ? scheme->rule : QZ_RULE_NONE;
    encoder->how = (struct qz_reference_how){.scale_dtype = scheme->scale_dtype};
    if (encoder->rule)
        encoder->how.weights = values;
    encoder->usual_group = scheme->group_size;
    if (qz_is_searching(encoder))
        qz_search_rules(encoder, view->group_size);
}
