/* SPDX-License-Identifier: MIT
 *
 * test_parse.c - IR text: what round-trips to the byte, what is made canonical, and every message of lexer,
 * parser, inference and op checks with its line and column. In the tables of errors a ` marks the place that
 * the message must name; it is taken out before parsing.
 */
#include "tests/unit/check.h"

#include "ir/dtype/codec.h"
#include "ir/ir.h"
#include "ir/support/io.h"
#include "tests/unit/messages.h"

static messages heard;

static qc_ctx *new_ctx(void)
{
    heard = (messages){0};
    return qc_ctx_create(NULL, keep_message, &heard);
}

/* Parses and prints; NULL (and the message in `heard`) when it does not parse. Free with qc_text_free. */
static char *canonical(qc_ctx *ctx, const char *text, size_t length)
{
    qc_module *module = qc_module_parse(ctx, "t.qc", text, length);
    char *printed = module ? qc_module_print(module, NULL) : NULL;
    qc_module_destroy(module);
    return printed;
}

static void check_canonical(const char *text, const char *expected)
{
    qc_ctx *ctx = new_ctx();
    char *printed = canonical(ctx, text, strlen(text));
    if (!printed)
        CHECK_FAIL("%s\n# in %s", heard.last, text);
    else
        CHECK_STR(printed, expected);
    qc_text_free(printed);
    qc_ctx_destroy(ctx);
}

static void check_round_trip(const char *text)
{
    check_canonical(text, text);
}

/* ---- what round-trips ---------------------------------------------------------------------------------- */

/* A function that returns a constant, and back. */
static void check_const(const char *elements, const char *type)
{
    char text[1024];
    snprintf(text, sizeof text, "qc 1\nfunc @f() -> %s {\n  %%y = const %s : %s\n  return %%y\n}\n", type,
        elements, type);
    check_round_trip(text);
}

static void test_integers(void)
{
    check_const("[0, 1, 1]", "bool[3]");
    check_const("[-8, 7, -1]", "i4[3]");
    check_const("[-128, 127, -1, 0]", "i8[4]");
    check_const("[-32768, 32767]", "i16[2]");
    check_const("[-2147483648, 2147483647]", "i32[2]");
    check_const("[-9223372036854775808, 9223372036854775807]", "i64[2]");
    check_const("[0, 255]", "u8[2]");
    check_const("[0, 65535]", "u16[2]");
    check_const("[0, 4294967295]", "u32[2]");
    check_const("[0, 18446744073709551615]", "u64[2]");
    check_const("[-2, 1, 0, -1, 1]", "i2[5]");
    check_const("[-4, 3, 0, -1, 2, 1, -3, 3, -4]", "i3[9]");
    check_const("[-16, 15, 0, -1, 9]", "i5[5]");
    check_const("[-32, 31, 0, -1, 9]", "i6[5]");
    check_const("[-64, 63, 0, -1, 9, 63, -64, 1, 2]", "i7[9]");
    check_const("[]", "f32[0]");
    check_const("[5]", "i8[]");
}

static void test_floats(void)
{
    check_const("[0.0, -0.0, 1.0, 0.1, 1e-45, 3.4028235e+38, inf, -inf, nan]", "f32[9]");
    check_const("[0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e+308, inf, -inf, nan]", "f64[8]");
    check_const("[0.1, 3.39e+38, 9e-41, inf, nan]", "bf16[5]");
    check_const("[0.1, 65500.0, 6e-08, -inf, nan]", "f16[5]");
    check_const("[448.0, -448.0, 0.001953125, nan]", "f8e4m3[4]");
    check_const("[57344.0, -57344.0, 1.5258789e-05, inf, nan]", "f8e5m2[5]");
    check_const("[1.0, 5.877472e-39, 1.7014118e+38, nan]", "f8e8m0[4]");
    check_const("[6.0, -6.0, 0.5]", "f4e2m1[3]");
}

/* Every value of the narrow types, and random ones of the wide. */
static void test_all_floats(void)
{
    static const qc_dtype types[] = {
        QC_F16, QC_BF16, QC_F8E4M3, QC_F8E5M2, QC_F8E8M0, QC_F4E2M1, QC_F32, QC_F64};
    uint64_t seed = 88172645463325252u;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        size_t bits = (size_t)qc_dtype_bits(types[t]), chunks = bits > 8 ? 64 : 1;
        size_t count = bits == 4 ? 16 : bits == 8 ? 256 : 1024;
        for (size_t chunk = 0; chunk < chunks; chunk++) {
            unsigned char bytes[8 * 1024] = {0};
            for (size_t i = 0; i < count; i++) {
                uint64_t code = chunk * count + i;
                if (bits >= 32) { /* xorshift (Marsaglia 2003) */
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    code = seed;
                }
                if (bits == 4)
                    bytes[i / 2] |= (unsigned char)(code << (i % 2 * 4));
                else
                    memcpy(bytes + i * bits / 8, &code, bits / 8);
            }
            qc_ctx *ctx = new_ctx();
            qc_module *module = qc_module_create(ctx);
            qc_func *func = qc_module_add_func(module, "f");
            qc_builder *b = qc_builder_at_end(func);
            const qc_dim *dim = qc_dim_int(ctx, (int64_t)count);
            qc_make(b, "const");
            qc_make_attr(b, "value", qc_attr_data(ctx, types[t], bytes, count));
            qc_make_type(b, qc_type_tensor(ctx, types[t], 1, &dim));
            qc_func_add_result(func, qc_make_end(b, NULL));
            CHECK_INT(qc_module_verify(module, NULL), QC_OK);
            size_t length;
            char *text = qc_module_print(module, &length);
            qc_module *again = qc_module_parse(ctx, "t.qc", text, length);
            CHECK(again != NULL);
            if (again) {
                const qc_attr *data = qc_op_attr(qc_func_first_op(qc_module_first_func(again)), "value");
                const unsigned char *back = qc_attr_data_bytes(data);
                for (size_t i = 0; i < count; i++) {
                    float x = NAN, y = NAN;
                    size_t at = i * bits / 8, size = bits == 4 ? 1 : bits / 8;
                    if (!memcmp(bytes + at, back + at, size))
                        continue;
                    qc_decode_f32(types[t], bytes + at, &x, 1);
                    qc_decode_f32(types[t], back + at, &y, 1);
                    if (!isnan(x) || !isnan(y)) /* payloads of NaNs go */
                        CHECK_FAIL(
                            "%s: %.9g came back as %.9g", qc_dtype_name(types[t]), (double)x, (double)y);
                }
            } else
                printf("# %s: %s\n", qc_dtype_name(types[t]), heard.last);
            qc_module_destroy(again);
            qc_module_destroy(module);
            qc_text_free(text);
            qc_ctx_destroy(ctx);
        }
    }
}

static void test_module_lines(void)
{
    check_round_trip("qc 1\n");
    check_round_trip("qc 1\nsource \"a \\\"b\\\" \\\\ \\n\\t\\r\\u0001 \xc3\xa9\"\n");
    check_round_trip("qc 1\nsource \"x\" {\n  shard \"s\" bytes 9223372036854775807 header "
                     "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\n}\n");
    check_round_trip("qc 1\nmodule \"\" A\nmodule \"a..b\" \"not an identifier\" {weight, \"a-b\"}\n");
    check_round_trip("qc 1\nscheme @s {}\nkv_scheme @k {a = 1}\ntransform @t {b = -1.5}\n");
    check_round_trip(
        "qc 1\nscheme @s {\"a key\" = \"text\", d = [], e = [1, 1.0, -inf, word, @sym, {x, y = false}, "
        "[true]], f, g = {}, true = i8}\n");
    check_canonical("qc 1\nsource \"\\u00e9\\u0041\"\n", "qc 1\nsource \"\xc3\xa9"
                                                         "A\"\n");
    check_canonical(
        "qc 1 // text\r\n\tdim B\n//\n dim S,B//\nmodule\"\"A module \"x\" B{w}scheme@s{b,a=true}",
        "qc 1\ndim B, S\nmodule \"\" A\nmodule \"x\" B {w}\nscheme @s {a, b}\n");
}

static void test_dims(void)
{
    static const char *const canonical_dims[] = {"0", "S", "-S + 5", "B - 2*S", "-3*S", "P + S",
        "B*P*S + 2*S + 1", "(S floordiv 2)", "((P + S) floordiv 16)*B", "((2*S) floordiv 3)",
        "(((S floordiv 3)*S) floordiv 2)", "9223372036854775807*S", "-9223372036854775807*S + 1"};
    static const struct {
        const char *written, *printed;
    } others[] = {{"S+P", "P + S"}, {"2*(S+1)", "2*S + 2"}, {"-(S - 5)", "-S + 5"}, {"S*B", "B*S"},
        {"S-S", "0"}, {"((2*S + 1) floordiv 2)", "S"}, {"- S + 5", "-S + 5"}, {"3 - 1", "2"},
        {"(7 floordiv 2)", "3"}, {"(S\n)", "S"}};
    char text[256], expected[256];
    for (size_t i = 0; i < sizeof canonical_dims / sizeof *canonical_dims; i++) {
        snprintf(
            text, sizeof text, "qc 1\ndim B, P, S\nfunc @f(%%x: i8[%s]) {\n  return\n}\n", canonical_dims[i]);
        check_round_trip(text);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(
            text, sizeof text, "qc 1\ndim B, P, S\nfunc @f(%%x: i8[%s]) {\n  return\n}\n", others[i].written);
        snprintf(expected, sizeof expected, "qc 1\ndim B, P, S\nfunc @f(%%x: i8[%s]) {\n  return\n}\n",
            others[i].printed);
        check_canonical(text, expected);
    }
}

#define TREE                                                                                                 \
    "qc 1\ndim B, P, S\nmodule \"\" Root\nmodule \"m\" Block\nmodule \"m.a\" Attention\nmodule \"m.a.q\" "   \
    "Linear "                                                                                                \
    "{weight}\nmodule \"m.a.k\" Linear\nmodule \"head\" Linear\n"

static void test_at_blocks(void)
{
    check_round_trip(TREE "func @f(%x: f32[2]) -> f32[2] {\n"
                          "  %0 = neg %x : f32[2]\n" /* of no module */
                          "  at \"m.a\" {\n"
                          "    %1 = neg %0 : f32[2] at \".q\"\n"
                          "    %2 = neg %1 : f32[2]\n"
                          "    %3 = neg %2 : f32[2] at \".k\"\n"
                          "  }\n"
                          "  at \"m\" {\n"
                          "    %4 = neg %3 : f32[2]\n"
                          "  }\n"
                          "  at \"\" {\n"
                          "    %5 = neg %4 : f32[2]\n"
                          "  }\n"
                          "  at \"head\" {\n" /* a leaf of the root has its own block */
                          "    %6 = neg %5 : f32[2]\n"
                          "  }\n"
                          "  %7 = neg %6 : f32[2]\n"
                          "  return %7\n"
                          "}\n");
    check_canonical(TREE "func @f(%x: f32[2]) -> f32[2] {\n"
                         "  %a = neg %x at \"m.a.q\"\n" /* whole paths, one op a block, types left out */
                         "  at \"m.a.k\" { %b = neg %a }\n"
                         "  at \"m\" { %c = neg %b at \"head\" %d = neg %c }\n"
                         "  return %d\n"
                         "}\n",
        TREE "func @f(%x: f32[2]) -> f32[2] {\n"
             "  at \"m.a\" {\n"
             "    %a = neg %x : f32[2] at \".q\"\n"
             "    %b = neg %a : f32[2] at \".k\"\n"
             "  }\n"
             "  at \"head\" {\n"
             "    %c = neg %b : f32[2]\n"
             "  }\n"
             "  at \"m\" {\n"
             "    %d = neg %c : f32[2]\n"
             "  }\n"
             "  return %d\n"
             "}\n");
    /* A path of more characters than any buffer. */
    char name[600], text[2048];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    snprintf(text, sizeof text,
        "qc 1\nmodule \"m\" M\nmodule \"m.%s\" L\nfunc @f(%%x: f32[2]) {\n  at \"m\" {\n"
        "    %%y = neg %%x : f32[2] at \".%s\"\n  }\n  return\n}\n",
        name, name);
    check_round_trip(text);
}

static void test_names(void)
{
    check_canonical("qc 1\nfunc @f(%x.3: f32[2], %7: f32[2], %a.b: f32[2], %x: f32[2]) -> f32[2] {\n"
                    "  %12 = add %x.3, %7\n"
                    "  %x.0 = add %12, %a.b\n"
                    "  %_ = neg %x.0\n"
                    "  %x1 = neg %_\n"
                    "  %q. = neg %x1\n"
                    "  return %q.\n"
                    "}\n",
        "qc 1\nfunc @f(%x: f32[2], %0: f32[2], %1: f32[2], %x.1: f32[2]) -> f32[2] {\n"
        "  %2 = add %x, %0 : f32[2]\n"
        "  %x.2 = add %2, %1 : f32[2]\n"
        "  %_ = neg %x.2 : f32[2]\n"
        "  %x1 = neg %_ : f32[2]\n"
        "  %3 = neg %x1 : f32[2]\n"
        "  return %3\n"
        "}\n");
    /* Attributes in another order, defaults written, an integer for a float, operands over lines. */
    check_canonical(
        "qc 1\ndim B, P, S\nfunc @f(%q: bf16[B, 4, S, 8], %k: bf16[B, 2, P + S, 8], %s: bf16[1]) {\n"
        "  %o = attention v_scale=%s, %q,\n %k,\n %k {softmax = f32, window = 0, scores = bf16,\n"
        " probs = bf16, scale = 1, causal = true}\n"
        "  return\n"
        "}\n",
        "qc 1\ndim B, P, S\nfunc @f(%q: bf16[B, 4, S, 8], %k: bf16[B, 2, P + S, 8], %s: bf16[1]) {\n"
        "  %o = attention %q, %k, %k, v_scale=%s {causal, probs = bf16, scale = 1.0, scores = bf16, "
        "softmax = f32} : bf16[B, 4, S, 8]\n"
        "  return\n"
        "}\n");
}

/* ---- errors -------------------------------------------------------------------------------------------- */

typedef struct bad {
    const char *text, *message;
} bad;

static void check_bad(const char *before, const bad *row, const char *after)
{
    char marked[8192], text[8192], where[64];
    snprintf(marked, sizeof marked, "%s%s%s", before, row->text, after);
    const char *mark = strchr(marked, '`');
    if (!mark) {
        CHECK_FAIL("no mark in %s", row->text);
        return;
    }
    int line = 1, column = 1;
    for (const char *c = marked; c < mark; c++) {
        column = *c == '\n' ? 1 : column + 1;
        line += *c == '\n';
    }
    snprintf(text, sizeof text, "%.*s%s", (int)(mark - marked), marked, mark + 1);
    snprintf(where, sizeof where, "t.qc:%d:%d: ", line, column);
    qc_ctx *ctx = new_ctx();
    qc_module *module = qc_module_parse(ctx, "t.qc", text, strlen(text));
    if (module || heard.count != 1 || heard.severity != QC_SEVERITY_ERROR ||
        strncmp(heard.last, where, strlen(where)) ||
        strncmp(heard.last + strlen(where), row->message, strlen(row->message)))
        CHECK_FAIL(
            "%s: said '%s' (%d), expected '%s%s'", row->text, heard.last, heard.count, where, row->message);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

static void test_bad_modules(void)
{
    static const bad rows[] = {
        {"`", "not IR text: the first line must be 'qc 1'"}, {"// nothing\n  `func", "not IR text"},
        {"`qc1", "not IR text"}, {"qc `2\n", "version 2 of the text form; this program reads version 1"},
        {"qc\n`", "expected an integer"}, {"qc `x", "expected an integer"},
        {"qc `99999999999999999999", "the integer does not fit 64 bits"},
        {"qc 1\n`function",
            "expected source, dim, module, scheme, kv_scheme, transform, import, recipe or func"},
        {"qc 1\n`%", "expected source, dim"}, {"qc 1\n`/ comment", "expected source, dim"},
        {"qc 1\nsource `x", "expected '\"'"}, {"qc 1\nsource `\"x\n", "the string does not end on its line"},
        {"qc 1\nsource `\"x", "the string does not end on its line"},
        {"qc 1\nsource \"ab`\\x\"", "bad escape in a string"},
        {"qc 1\nsource \"ab`\\", "bad escape in a string"},
        {"qc 1\nsource \"ab`\\u12\"", "bad escape in a string"},
        {"qc 1\nsource \"ab`\\u1234\"", "bad escape in a string"},
        {"qc 1\nsource \"ab`\\u0000\"", "bad escape in a string"},
        {"qc 1\nsource \"a\"\nsource `\"b\"", "a second source line"},
        {"qc 1\nsource \"a\" {\n  `file \"x\"", "expected 'shard'"},
        {"qc 1\nsource \"a\" {\n  shard \"x\" `size", "expected 'bytes'"},
        {"qc 1\nsource \"a\" {\n  shard \"x\" bytes `-1 header", "the size of a shard is negative"},
        {"qc 1\nsource \"a\" {\n  shard \"x\" bytes `header", "expected an integer"},
        {"qc 1\nsource \"a\" {\n  shard \"x\" bytes 1 `sha", "expected 'header'"},
        {"qc 1\nsource \"a\" {\n  shard \"x\" bytes 1 header `\"00\"",
            "the SHA-256 of a shard's header has 64 hex"},
        {"qc 1\nsource \"a\" {`", "expected 'shard'"}, {"qc 1\ndim `1", "expected the name of a dimension"},
        {"qc 1\ndim B,\n`", "expected the name of a dimension"}, {"qc 1\nmodule `a", "expected '\"'"},
        {"qc 1\nmodule \"a\" `1", "expected a class name"},
        {"qc 1\nmodule \"a\" A\nmodule `\"a\" A", "the module \"a\" is declared twice"},
        {"qc 1\nmodule \"a\" A {`}", "expected the name of a tensor"},
        {"qc 1\nmodule \"a\" A {w`", "expected '}'"}, {"qc 1\nscheme `s {}", "expected '@'"},
        {"qc 1\nscheme @`1 {}", "expected a name after '@'"}, {"qc 1\nscheme @s `x", "expected '{'"},
        {"qc 1\nscheme @s {}\nkv_scheme `@s {}", "the symbol @s is defined twice"},
        {"qc 1\nscheme @s {a, b, `a}", "the key 'a' is given twice"},
        {"qc 1\nscheme @s {`1}", "expected a key"}, {"qc 1\nscheme @s {a `b}", "expected ','"},
        {"qc 1\nscheme @s {a = `}", "expected a value"},
        {"qc 1\nscheme @s {a = `", "expected a value, the text ends"},
        {"qc 1\nscheme @s {a = `-}", "expected a number"}, {"qc 1\nscheme @s {a = `1.}", "expected a number"},
        {"qc 1\nscheme @s {a = `1.5e}", "expected a number"},
        {"qc 1\nscheme @s {a = `1x}", "expected a number"},
        {"qc 1\nscheme @s {a = `1.2.3}", "expected a number"},
        {"qc 1\nscheme @s {a = `9223372036854775808}", "the integer does not fit 64 bits"},
        {"qc 1\nscheme @s {a = `-9223372036854775809}", "the integer does not fit 64 bits"},
        {"qc 1\nscheme @s {a = 1 `2}", "expected ','"}, {"qc 1\nscheme @s {a = [1 `2]}", "expected ','"},
        {"qc 1\nscheme @s {a = [1`", "expected ','"},
        {"qc 1\nscheme @s {a = @`}", "expected a name after '@'"}, {"qc 1\nfunc `f", "expected '@'"},
        {"qc 1\nfunc @`", "expected a name after '@'"}, {"qc 1\nfunc @f`", "expected '('"},
        {"qc 1\nfunc @f(`x", "expected '%'"}, {"qc 1\nfunc @f(%`: i8[])", "expected a value name after '%'"},
        {"qc 1\nfunc @f(%x `i8[])", "expected ':'"}, {"qc 1\nfunc @f(%x: `)", "expected a type"},
        {"qc 1\nfunc @f(%x: `i9[])", "'i9' is not an element type"},
        {"qc 1\nfunc @f(%x: i8`", "expected '['"}, {"qc 1\nfunc @f(%x: i8[`", "expected an integer"},
        {"qc 1\nfunc @f(%x: i8[2 `3])", "expected ','"},
        {"qc 1\nfunc @f(%x: `i8[1, 1, 1, 1, 1, 1, 1, 1, 1])", "a tensor of more than 8 dimensions"},
        {"qc 1\nfunc @f(%x: i8[3, `-2])", "a negative dimension"},
        {"qc 1\nfunc @f(%x: `i8[4294967296, 4294967296])", "the number of elements overflows 64 bits"},
        {"qc 1\nfunc @f(%x: i8[`9223372036854775807 + 1])",
            "a dimension overflows 64 bits or has too many terms"},
        {"qc 1\nfunc @f(%x: i8[B, `9223372036854775807*2*S])", "a dimension overflows 64 bits"},
        {"qc 1\nfunc @f(%x: i8[`-(-9223372036854775808)])", "a dimension overflows 64 bits"},
        {"qc 1\nfunc @f(%x: i8[`(a+b)*(c+d)*(e+f)*(g+h)*(i+j)*(k+l)*(m+n)])",
            "a dimension overflows 64 bits or has"},
        {"qc 1\nfunc @f(%x: i8[`S*S*S*S*S*S*S*S*S*S*S*S*S*S*S*S*S])", "a dimension overflows 64 bits or has"},
        {"qc 1\nfunc @f(%x: i8[(S floordiv `0)])", "floordiv needs a positive divisor"},
        {"qc 1\nfunc @f(%x: i8[(S floordiv `x)])", "expected an integer"},
        {"qc 1\nfunc @f(%x: i8[(S floordiv 2`])", "expected ')'"},
        {"qc 1\nfunc @f(%x: i8[S*`])", "expected an integer"},
        {"qc 1\nfunc @f(%x: i8[S + `])", "expected an integer"},
        {"qc 1\nfunc @f(%x: i8[] `%y: i8[])", "expected ','"},
        {"qc 1\nfunc @f(%x: i8[], `%x: i8[])", "%x is defined twice"}, {"qc 1\nfunc @f() `}", "expected '{'"},
        {"qc 1\nfunc @f() -> `{", "expected a type"}, {"qc 1\nfunc @f() {\n`}", "expected 'return'"},
        {"qc 1\nfunc @f() {`", "expected an operation"}, {"qc 1\nfunc @f() {\n  return\n`", "expected '}'"},
        {"qc 1\nfunc @f() {\n  return `%y\n}", "%y is not defined before this"},
        {"qc 1\nfunc @f(%x: i8[]) -> i16[] {\n  return `%x\n}", "the function declares i16[], this is i8[]"},
        {"qc 1\nfunc @f(%x: i8[]) {\n  return `%x\n}", "the function declares 0 results, 1 are returned"},
        {"qc 1\nfunc @f(%x: i8[]) -> i8[], i8[] {\n  return `%x\n}",
            "the function declares 2 results, 1 are returned"},
        {"qc 1\nfunc @f() {\n  return\n}\nfunc `@f() {\n  return\n}", "the function @f is defined twice"},
        {"qc 1\nfunc @f() {\n  at `\"a\" {\n  }\n  return\n}", "no module line declares \"a\""},
        {"qc 1\nmodule \"a\" A\nfunc @f() {\n  at \"a\" `%x", "expected '{'"},
        {"qc 1\nfunc @f(%x: i8[\n2], %y:\n `i9[])",
            "'i9' is not an element type"}, /* lines inside of types count */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_bad("", &rows[i], "");
}

static const char prelude[] =
    "qc 1\ndim B, P, S\nmodule \"\" Root\nmodule \"a\" Attention\nmodule \"a.k\" Linear\n"
    "scheme @head {arith = ct_cpu, input = {granularity = head, symmetric, type = f8e4m3}, weights = "
    "{granularity = "
    "channel, symmetric, type = i8}}\n"
    "scheme @token {arith = ct_cpu, input = {granularity = token, symmetric, type = f8e4m3}, weights = "
    "{granularity = row, "
    "type = i8}}\n"
    "scheme @odd {arith = ct_cpu, input = {granularity = group, type = i4}, weights = {granularity = tensor, "
    "type = q8}}\n"
    "scheme @nv {arith = ct_cpu, input = {granularity = tensor, type = i8}, weights = {global, granularity = "
    "group, group = 4, "
    "scale = f8e4m3, symmetric, type = f4e2m1}}\n"
    "scheme @tensor {input = {granularity = tensor, type = i8}}\n"
    "transform @t {input = {granularity = head, type = f8e4m3}}\n"
    "func @f(%x: bf16[B, S, 8], %z: bf16[B, S, 3], %h: bf16[B, 2, S, 4], %i: i64[B, S], %w: bf16[16, 8], %v: "
    "bf16[8], "
    "%c: f8e4m3[B, 1, P + S, 4], %k: bf16[B, 1, P + S, 4], %s: bf16[3, 1, 1], %n: bf16[], %r: i64[1, 1, 1, "
    "1, 1, 1, 1, 1]"
    ", %u: bf16[2, 8], %m: bf16[4611686018427387904, 1]) {\n  at \"a\" {\n    ";
static const char coda[] = "\n  }\n  return\n}\n";

static void test_bad_ops(void)
{
    static const bad rows[] = {
        {"%y = `;", "expected an operation"},
        {"%y `neg %x", "expected '='"},
        {"%y, `x = neg %x", "expected '%'"},
        {"%y = `negg %x", "there is no op 'negg'; did you mean 'neg'?"},
        {"%y = `convolution %x", "there is no op 'convolution'"},
        {"`neg %x", "neg gives 1 values, 0 are named"},
        {"%a, %b = `neg %x", "neg gives 1 values, 2 are named"},
        {"`%x = neg %x", "%x is defined twice"},
        {"%y = add %x, `%q", "%q is not defined before this"},
        {"%y = add %x, `;", "expected an operand"},
        {"%y = add %x, %x, `%x", "add takes no further operand"},
        {"%y = `add %x", "add: operand 'z' is missing"},
        {"%y = `add\n    %q = neg %x", "add: operand 'x' is missing"},
        {"%y = add `x, %x", "add has no optional operand 'x'"},
        {"%y = linear %x, `w=%w", "linear has no optional operand 'w'"},
        {"%y = linear %x, %w, bias=%v, `bias=%v", "operand 'bias' is given twice"},
        {"%y = linear %x, %w, bias`;", "expected '='"},
        {"%y = cast %x {`too = f32}", "cast has no attribute 'too'"},
        {"%y = cast %x {to = f32, `to = f32}", "attribute 'to' is given twice"},
        {"%y = const [1] {`value = 1} : i8[1]", "attribute 'value' is given twice"},
        {"%y = cast %x {to = f32, `}", "expected an attribute name"},
        {"%y = cast %x {to = f32 `x}", "expected '}'"},
        {"%y = `cast %x", "cast: attribute 'to' is missing"},
        {"%y = cast %x {`to}", "cast: attribute to must be a word"},
        {"%y = cast %x {`to = f33}", "cast: attribute to: 'f33' is not an element type"},
        {"%y = cache_append %h {`slot = q} : bf16[B, 2, P + S, 4]",
            "cache_append: attribute slot must be one of k|v|k_scale|v_scale, not q"},
        {"%y = split_heads %x {`heads = 2.0}", "split_heads: attribute heads must be an integer"},
        {"%y = rmsnorm %x, %v {`eps}", "rmsnorm: attribute eps must be a float (with a point or exponent)"},
        {"%y = attention_mask %h {`causal = 1}", "attention_mask: attribute causal must be true or false"},
        {"%y = observe %x {granularity = tensor, `tap = word}", "observe: attribute tap must be a string"},
        {"%y = qparams %x {arg = input, `scheme = head}", "qparams: attribute scheme must be a @symbol"},
        {"%y = transpose %x {`perm = {}}", "transpose: attribute perm must be a list"},
        {"%y = rope_cos %i {dims = 4, theta = 1.0, `scaling = []}",
            "rope_cos: attribute scaling must be a map"},
        {"%y = weight `word : i8[1]", "weight: attribute tensor must be a string"},
        {"%y = neg %x : bf16[B, S, 8], `bf16[B]", "neg has no result for this type"},
        {"%y = `neg %x : bf16[B, S, 9]",
            "neg: the type bf16[B, S, 9] is written, its operands give bf16[B, S, 8]"},
        {"%y = neg %x at `\".q\"", "no module line declares \"a.q\""},
        {"%y = neg %x at `\"q\"", "no module line declares \"q\""},
        {"%y = neg %x at `x", "expected '\"'"},
        {"%y = `weight \"a\"", "weight: the result type must be written, it cannot be inferred"},
        {"%y = `const [1]", "const: the result type must be written, it cannot be inferred"},
        {"%y = `reshape %x", "reshape: the result type must be written"},
        {"%y = const `1 : i8[1]", "expected '['"},
        {"%y = const [1 `2] : i8[2]", "expected ','"},
        {"%y = const [`x] : i8[1]", "expected a number"},
        {"%y = const [`infinity] : f32[1]", "expected a number"},
        {"%y = const [`-nan] : f32[1]", "expected a number"},
        {"%y = const [1.0, `1inf] : f32[2]", "expected a number"},
        {"%y = const [1, `128] : i8[2]", "not an element of i8"},
        {"%y = const [`-129] : i8[1]", "not an element of i8"},
        {"%y = const [`8] : i4[1]", "not an element of i4"},
        {"%y = const [`2] : bool[1]", "not an element of bool"},
        {"%y = const [`-1] : u64[1]", "not an element of u64"},
        {"%y = const [`9223372036854775808] : i64[1]", "not an element of i64"},
        {"%y = const [`18446744073709551616] : u64[1]", "the integer does not fit 64 bits"},
        {"%y = const [`1.0] : i32[1]", "not an element of i32"},
        {"%y = const [`nan] : i32[1]", "not an element of i32"},
        {"%y = const [`449.0] : f8e4m3[1]", "not an element of f8e4m3"},
        {"%y = const [`inf] : f8e4m3[1]", "not an element of f8e4m3"},
        {"%y = const [`6.5] : f4e2m1[1]", "not an element of f4e2m1"},
        {"%y = const [`nan] : f4e2m1[1]", "not an element of f4e2m1"},
        {"%y = const [`0.0] : f8e8m0[1]", "not an element of f8e8m0"},
        {"%y = const [`-1.0] : f8e8m0[1]", "not an element of f8e8m0"},
        {"%y = const [`65520.0] : f16[1]", "not an element of f16"},
        {"%y = const [`1e39] : bf16[1]", "not an element of bf16"},
        {"%y = const [`1e400] : f64[1]", "not an element of f64"},
        {"%y = `const [1, 2] : i8[3]", "const: 2 elements for the type i8[3]"},
        {"%y = `const [1] : i8[B]", "const: 1 elements for the type i8[B]"},
        {"%y = `neg %i", "neg: operand x must be of a float type, not i64"},
        {"%y = `positions %x", "positions: operand ids must be of an integer type, not bf16"},
        {"%y = `add %x, %z", "add: shapes bf16[B, S, 8] and bf16[B, S, 3] do not broadcast"},
        {"%y = `transpose %x {perm = [0, 1]}", "transpose: perm has 2 entries for a tensor of rank 3"},
        {"%y = `transpose %x {perm = [0, 1, 1]}", "transpose: perm is not a permutation of 0..2"},
        {"%y = `transpose %v {perm = [\"0\"]}", "transpose: perm is not a permutation of 0..0"},
        {"%y = `slice %x {axis = 3, start = 0, stop = 1}", "slice: axis is out of range for bf16[B, S, 8]"},
        {"%y = `slice %x {axis = -1, start = 4, stop = 9}",
            "slice: 4..9 is not inside dimension 2 of bf16[B, S, 8]"},
        {"%y = `slice %x {axis = 1, start = 4, stop = 3}", "slice: 4..3 is not inside dimension 1"},
        {"%y = `concat {axis = 0}", "concat: at least one operand is needed"},
        {"%y = `concat %x {axis = 3}", "concat: axis is out of range for bf16[B, S, 8]"},
        {"%y = `concat %x, %z {axis = 1}", "concat: bf16[B, S, 3] does not fit bf16[B, S, 8] outside axis 1"},
        {"%y = `concat %x, %i {axis = 1}", "concat: i64[B, S] does not fit"},
        {"%y = `concat %m, %m {axis = 0}", "dimension 0 of a tensor is too large"},
        {"%y = `concat %m, %m {axis = 1}", "the number of elements of a tensor overflows 63 bits"},
        {"%y = `split_heads %w {heads = 2}", "split_heads: x must be [B, S, n], not bf16[16, 8]"},
        {"%y = `split_heads %x {heads = 3}", "split_heads: 8 is not divisible by 3 heads"},
        {"%y = `split_heads %x {heads = 0}", "split_heads: 8 is not divisible by 0 heads"},
        {"%y = `merge_heads %x", "merge_heads: x must be [B, heads, S, d], not bf16[B, S, 8]"},
        {"%y = `repeat_heads %h {times = 0}", "repeat_heads: x must be [B, heads, S, d] and times positive"},
        {"%y = `rotate_half %z", "rotate_half: the last dimension of bf16[B, S, 3] is not even"},
        {"%y = `linear %x, %v", "linear: x bf16[B, S, 8] and w bf16[8] must be [..., in] and [out, in]"},
        {"%y = `linear %z, %w", "linear: x bf16[B, S, 3] has 3 inputs, w bf16[16, 8] has 8"},
        {"%y = `linear %x, %w, bias=%v", "linear: bias bf16[8] does not fit w bf16[16, 8]"},
        {"%y = `matmul %x, %h {to = f32}",
            "matmul: bf16[B, S, 8] and bf16[B, 2, S, 4] must have the same rank"},
        {"%y = `matmul %h, %k {to = f32}", "matmul: batch dimensions of"},
        {"%y = `matmul %x, %x {to = f32}", "matmul: inner dimensions of"},
        {"%y = `matmul %x, %x {to = i8, transpose_z}", "matmul: to must be a float type"},
        {"%y = `embedding %i, %v", "embedding: w must be [vocabulary, hidden], not bf16[8]"},
        {"%y = `embedding %r, %w",
            "embedding: ids i64[1, 1, 1, 1, 1, 1, 1, 1] has no room for one more dimension"},
        {"%y = `reduce_sum %n", "reduce_sum: x has no dimension to reduce"},
        {"%y = `reduce_max %n", "reduce_max: x has no dimension to reduce"},
        {"%y = `softmax %n", "softmax: x has no dimension to sum over"},
        {"%y = `attention_mask %x", "attention_mask: x must be [B, heads, S, P + S], not bf16[B, S, 8]"},
        {"%y = `attention_mask %h {window = -1}", "attention_mask: window must not be negative"},
        {"%y = `rmsnorm %x, %w {eps = 1e-05}",
            "rmsnorm: w bf16[16, 8] must have the size of the last dimension of x"},
        {"%y = `rope_cos %x {dims = 4, theta = 1.0}", "rope_cos: operand pos must be of an integer type"},
        {"%y = `rope_sin %i {dims = 3, theta = 1.0}",
            "rope_sin: pos must be [B, S] and dims even and positive"},
        {"%y = `rope_cos %i {dims = 4, theta = 0.0}", "rope_cos: theta must be positive"},
        {"%y = `rope_sin %i {dims = 4, theta = inf}", "rope_sin: theta must be positive"},
        {"%y = `rope %x, %i {tables = f32, theta = 1.0}",
            "rope: x must be [B, heads, S, d] with d even, not"},
        {"%y = `rope %h, %r {tables = f32, theta = 1.0}",
            "rope: pos i64[1, 1, 1, 1, 1, 1, 1, 1] does not fit x"},
        {"%y = `rope %h, %i {tables = i8, theta = 1.0}", "rope: tables must be a float type"},
        {"%y = `rope %h, %i {tables = f32, theta = nan}", "rope: theta must be positive"},
        {"%y = `attention %x, %k, %k {probs = bf16, scale = 0.5, scores = bf16, softmax = f32}",
            "attention: q must be [B, heads, S, d], not bf16[B, S, 8]"},
        {"%y = `attention %h, %c, %k {probs = bf16, scale = 0.5, scores = bf16, softmax = f32}",
            "attention: k is f8e4m3[B, 1, P + S, 4] but probs is bf16; codes need k_scale"},
        {"%y = `attention %h, %c, %k, k_scale=%s {probs = bf16, scale = 0.5, scores = bf16, softmax = f32}",
            "attention: k_scale bf16[3, 1, 1] does not fit f8e4m3[B, 1, P + S, 4]"},
        {"%y = `attention %h, %k, %k {probs = bf16, scale = 0.5, scores = i32, softmax = f32}",
            "attention: scores must be a float type"},
        {"%y = `attention %k, %h, %h {probs = bf16, scale = 0.5, scores = bf16, softmax = f32}",
            "attention: the heads of q bf16[B, 1, P + S, 4] are not a multiple of those of k bf16[B, 2, S, "
            "4]"},
        {"%y = `attention %h, %k, %h {probs = bf16, scale = 0.5, scores = bf16, softmax = f32}",
            "attention: k bf16[B, 1, P + S, 4] does not fit v bf16[B, 2, S, 4]"},
        {"%q = split_heads %x {heads = 4}\n%y = `attention %q, %k, %k {probs = bf16, scale = 0.5, scores = "
         "bf16, softmax = "
         "f32}",
            "attention: q bf16[B, 4, S, 2] does not fit k bf16[B, 1, P + S, 4]"},
        {"%y = `attention %h, %k, %k {probs = bf16, scale = 0.5, scores = bf16, softmax = f32, window = 4}",
            "attention: a window needs causal"},
        {"%y = `attention %h, %k, %k {probs = bf16, scale = 0.5, scores = bf16, softmax = f32, window = -4}",
            "attention: window must not be negative"},
        {"%y = `reshape %x : bf16[B, S, 9]", "reshape: bf16[B, S, 9] has not the elements of bf16[B, S, 8]"},
        {"%y = `reshape %x : f32[B, S, 8]", "reshape: f32[B, S, 8] has not the elements of bf16[B, S, 8]"},
        {"%y = `hadamard %x {size = 3}", "hadamard: no matrix of size 3 is known: K * 2^m, K a multiple of 4 up to 256, 2 or 1"},
        {"%y = `hadamard %x {size = 16}",
            "hadamard: the last dimension of bf16[B, S, 8] is not a multiple of 16"},
        {"%y = `cache_append %h {slot = k} : bf16[B, 2, S, 4]",
            "cache_append: bf16[B, 2, S, 4] must be bf16[B, 2, S, 4] with P more along dimension 2"},
        {"%y = `weight \"w\" : bf16[B]", "weight: the shape bf16[B] must be static"},
        {"%y = `observe %x {granularity = head, tap = \"t\"}",
            "observe: granularity head needs x [B, heads, S, d], not"},
        {"%y = `qparams %x {arg = input, scheme = @none}", "no symbol @none in the module"},
        {"%y = `qparams %x {arg = weights, scheme = @tensor}", "@tensor has no part 'weights'"},
        {"%y = `qparams %x {arg = input, scheme = @head}",
            "qparams: granularity head needs x [B, heads, S, d], not"},
        {"%y = `qparams %x {arg = input, from = stat, scheme = @head}",
            "qparams: statistics must be [2, n] or [2, heads, d], not"},
        {"%y = `qparams %u {arg = input, from = stat, scheme = @token}",
            "qparams: granularity token needs data, not statistics"},
        {"%y = `qparams %x {arg = weights, scheme = @head}", "qparams: granularity channel needs a weight"},
        {"%y = `qparams %x {arg = weights, scheme = @token}",
            "@token has the unknown granularity 'row' for its weights"},
        {"%y = `qparams %h {arg = input, scheme = @t}", "@t is not a scheme"},
        {"%y = `quantize %h, %n {arg = input, scheme = @t}", "@t is not a scheme"},
        {"%y = `quantize %h, %s {arg = input, scheme = @head}",
            "quantize: scale bf16[3, 1, 1] does not broadcast to x"},
        {"%y = `quantize %x, %n {arg = weights, scheme = @odd}",
            "@odd quantizes its weights to 'q8', which has no codes"},
        {"%y = `qparams %x {arg = input, scheme = @odd}",
            "@odd: granularity group of its input needs `group`"},
        {"%y = `qparams %w {arg = weights, scheme = @nv}", "qparams: @nv needs a global scale"},
        {"%y = `qparams %w, global=%n {arg = input, scheme = @nv}", "qparams: @nv knows no global scale"},
        {"%y = `zero_point %w {arg = weights, scheme = @nv}", "zero_point: @nv is symmetric"},
        {"%y = `global_scale %w {arg = input, scheme = @nv}", "global_scale: @nv knows no global scale"},
        {"%y = `global_scale %w {arg = weights, from = stat, scheme = @nv}",
            "global_scale: statistics must be [2, n] or [2, heads, d], not"},
        {"%y = `quantize %w, %n {arg = input, scheme = @nv}", "quantize: @nv needs a zero point"},
        {"%y = `quantize %w, %n {arg = weights, scheme = @nv}", "quantize: @nv needs a global scale"},
        {"%y = `dequantize %c, %s {group = 2, to = bf16}",
            "dequantize: scale bf16[3, 1, 1] is not one a group of x"},
        {"%y = `dequantize %c, %s {block = [2], to = bf16}", "dequantize: block must be [rows, columns]"},
        {"%y = `dequantize %c, %s {block = [2, 2], group = 2, to = bf16}",
            "dequantize: group and block exclude each other"},
        {"%y = `dequantize %c, %n, global=%n {to = bf16}",
            "dequantize: a global scale is f32[1], not bf16[]"},
        {"%y = `dequantize %c, %n, zero_point=%i {to = bf16}",
            "dequantize: zero_point i64[B, S] has not the shape of scale"},
        {"%y = `unpack %i : i4[8, 8]", "unpack: i4 comes out of i32, not i64[B, S]"},
        {"%y = `unpack %i : bf16[8, 8]", "unpack: the result must be f4e2m1, f8e8m0 or i2 to i8, not bf16[8, 8]"},
        {"%y = `observe %x {granularity = channel, tap = \"t\"}",
            "observe: granularity channel needs x [B, heads, S, d], not bf16[B, S, 8]"},
        {"%y = `observe %x {granularity = tensor, observer = mse, tap = \"t\"}",
            "observe: an observer that searches needs the scheme"},
        {"%y = `observe %x {averaging = 0.0, granularity = tensor, tap = \"t\"}",
            "observe: averaging must be above 0"},
        {"%y = `dequantize %c, %s {to = bf16}", "dequantize: scale bf16[3, 1, 1] does not broadcast to x"},
        {"%y = `dequantize %c, %n {to = i8}", "dequantize: to must be a float type"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_bad(prelude, &rows[i], coda);
    const bad no_module = {"%y = `cache_append %h {slot = k} : bf16[B, 2, P + S, 4]\n  return\n}\n",
        "cache_append: the cache is named by its module, but the op has none"};
    char without_block[4096];
    snprintf(
        without_block, sizeof without_block, "%.*s", (int)(strstr(prelude, "  at \"a\"") - prelude), prelude);
    check_bad(without_block, &no_module, "");
}

/* Too much of something. */
static void test_limits(void)
{
    enum { MOST = 65536 }; /* elements of a const */
    static char text[4 * MOST];
    size_t length = (size_t)snprintf(text, sizeof text, "qc 1\nfunc @f() {\n  %%y = const [0");
    for (int i = 0; i < MOST; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, ", 0");
    snprintf(text + length, sizeof text - length, "] : i8[65537]\n  return\n}\n");
    qc_ctx *ctx = new_ctx();
    CHECK(!canonical(ctx, text, strlen(text)));
    CHECK(said(&heard, "t.qc:3:8: const: 65537 elements; more than 65,536 belong into a weight"));
    length = (size_t)snprintf(text, sizeof text, "qc 1\nscheme @s {a = ");
    for (int i = 0; i < 70; i++)
        text[length + (size_t)i] = '[';
    text[length + 70] = 0;
    CHECK(!canonical(ctx, text, strlen(text)));
    CHECK(said(&heard, "t.qc:2:80: attributes are nested deeper than 64"));
    length = (size_t)snprintf(text, sizeof text, "qc 1\nfunc @f(%%x: i8[");
    memset(text + length, '(', 70);
    text[length + 70] = 0;
    CHECK(!canonical(ctx, text, strlen(text)));
    CHECK(said(&heard, "t.qc:2:81: a dimension is nested deeper than 64"));
    length = (size_t)snprintf(text, sizeof text, "qc 1\nscheme @s {k");
    for (int i = 0; i < 5000; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, ", k%d", i);
    CHECK(!canonical(ctx, text, length));
    CHECK(said(&heard, "a map of more than 4096 keys"));
    const char nul[] = "qc 1\nsource \"a\0b\"\n";
    CHECK(!canonical(ctx, nul, sizeof nul - 1));
    CHECK(said(&heard, "t.qc:2:10: a NUL byte in a string"));
    CHECK_INT(heard.count, 5);
    qc_ctx_destroy(ctx);
}

/* ---- damage -------------------------------------------------------------------------------------------- */

static const char sample[] =
    "qc 1\n"
    "source \"s\" {\n"
    "  shard \"a\" bytes 100 header \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\n"
    "}\n"
    "dim B, P, S\n"
    "module \"\" Root\n"
    "module \"a\" Attention\n"
    "module \"a.q\" Linear {weight, bias}\n"
    "scheme @s {arith = ct_cpu, input = {granularity = head, symmetric, type = f8e4m3}, targets = "
    "[\"re:.*\\\\.a$\"]}\n"
    "func @main(%x: bf16[B, S, 8], %ids: i64[B, S]) -> bf16[B, S, 8] {\n"
    "  %pos = positions %ids : i64[B, S]\n"
    "  at \"a\" {\n"
    "    %w = weight \"a.q.weight\" : bf16[8, 8] at \".q\"\n"
    "    %b = const [0.5, -1e-05, 3.0, 0.0, 0.0, 0.0, 0.0, inf] : bf16[8]\n"
    "    %q = linear %x, %w, bias=%b : bf16[B, S, 8] at \".q\"\n"
    "    %q.1 = split_heads %q {heads = 2} : bf16[B, 2, S, 4]\n"
    "    %q.2 = rope %q.1, %pos {scaling = {factor = 8.0, type = linear}, tables = bf16, theta = 10000.0} : "
    "bf16[B, 2, S, 4]\n"
    "    %s = qparams %q.2 {arg = input, scheme = @s} : bf16[2, 1, 1]\n"
    "    %c = quantize %q.2, %s {arg = input, scheme = @s} : f8e4m3[B, 2, S, 4]\n"
    "    %k = cache_append %c {slot = k} : f8e4m3[B, 2, P + S, 4]\n"
    "    %o = attention %c, %k, %k, q_scale=%s, k_scale=%s, v_scale=%s {causal, probs = bf16, scale = 0.5, "
    "scores = bf16, "
    "softmax = f32} : bf16[B, 2, S, 4]\n"
    "    %m = merge_heads %o : bf16[B, S, 8]\n"
    "  }\n"
    "  return %m\n"
    "}\n";

/* Exactly one error, or a module that prints as text that reads back and prints the same. */
static void check_any(const char *text, size_t length)
{
    qc_ctx *ctx = new_ctx();
    char *copy = malloc(length ? length : 1); /* of this size, so that a sanitizer sees what reads past it */
    memcpy(copy, text, length);
    char *first = canonical(ctx, copy, length);
    CHECK_INT(heard.count, first ? 0 : 1);
    if (first) {
        char *second = canonical(ctx, first, strlen(first));
        if (!second)
            CHECK_FAIL("%s\n# in %s", heard.last, first);
        else
            CHECK_STR(second, first);
        qc_text_free(second);
    }
    qc_text_free(first);
    free(copy);
    qc_ctx_destroy(ctx);
}

static void test_truncations(void)
{
    check_round_trip(sample);
    for (size_t length = 0; length < sizeof sample; length++)
        check_any(sample, length);
}

static void test_damage(void)
{
    static const char others[] = "\0\n \"%@{}[](),.:=*+-/019aqze\\\x80\xff";
    char text[sizeof sample];
    for (size_t i = 0; i + 1 < sizeof sample; i++)
        for (size_t k = i % 3; k < sizeof others - 1; k += 3) {
            memcpy(text, sample, sizeof sample);
            text[i] = others[k];
            check_any(text, sizeof sample - 1);
        }
    for (size_t i = 0; i + 1 < sizeof sample; i++) { /* one byte left out; one doubled */
        memcpy(text, sample, i);
        memcpy(text + i, sample + i + 1, sizeof sample - 1 - i);
        check_any(text, sizeof sample - 2);
    }
}

/* ---- the files of tests/ir ----------------------------------------------------------------------------- */

static void test_every_op_has_a_case(void)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    qc_arena arena;
    qc_diag diag;
    char *text = NULL;
    size_t length = 0;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, &heard);
    const char *path = qc_path_join(&arena, root ? root : ".", "tests/ir/ops.qc");
    if (qc_read_file(&diag, &arena, path, 1 << 22, &text, &length) != QC_OK)
        CHECK_FAIL("%s", heard.last);
    for (size_t i = 0; text && i < qc_op_info_count; i++)
        if (!strstr(text, qc_arena_printf(&arena, " = %s ", qc_op_infos[i].name)))
            CHECK_FAIL("tests/ir/ops.qc has no case of '%s'", qc_op_infos[i].name);
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_integers);
    RUN(test_floats);
    RUN(test_all_floats);
    RUN(test_module_lines);
    RUN(test_dims);
    RUN(test_at_blocks);
    RUN(test_names);
    RUN(test_bad_modules);
    RUN(test_bad_ops);
    RUN(test_limits);
    RUN(test_truncations);
    RUN(test_damage);
    RUN(test_every_op_has_a_case);
    return check_done();
}
