/* SPDX-License-Identifier: Apache-2.0 */
/* Points and curves as an SVG: wasted memory to the right, cold starts upwards (both: less is
 * better). The difficulty: none but to choose scales that fit what came out. */
#include "bench/keepalive.h"
#include <errno.h>
#include <math.h>
#include <string.h>

#define WIDTH 900
#define HEIGHT 560
#define LEFT 70
#define RIGHT 250 /* for the names of the series */
#define TOP 20
#define BOTTOM 60
#define TICKS 8

struct scale {
    double most; /* both begin at 0 */
    double step;
};

/* A step of 1, 2 or 5 with some zeros. */
static struct scale scale_for(double most)
{
    const double rough = fmax(most, 1) / TICKS, power = pow(10, floor(log10(rough)));
    const double lead = rough / power;
    struct scale s;

    s.step = power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
    s.most = s.step * ceil(fmax(most, 1) / s.step);
    return s;
}

static double place_x(const struct scale *s, double value)
{
    return LEFT + value / s->most * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct scale *s, double value)
{
    return HEIGHT - BOTTOM - value / s->most * (HEIGHT - TOP - BOTTOM);
}

static void draw_axes(FILE *f, const struct scale *x, const struct scale *y)
{
    fprintf(f, "<g stroke=\"#ddd\">\n");
    for (double v = 0; v <= x->most; v += x->step)
        fprintf(f, "<path d=\"M%.1f %d V%d\"/>\n", place_x(x, v), TOP, HEIGHT - BOTTOM);
    for (double v = 0; v <= y->most; v += y->step)
        fprintf(f, "<path d=\"M%d %.1f H%d\"/>\n", LEFT, place_y(y, v), WIDTH - RIGHT);
    fprintf(f, "</g>\n<g fill=\"#444\">\n");
    for (double v = 0; v <= x->most; v += x->step)
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", place_x(x, v),
                HEIGHT - BOTTOM + 18, v);
    for (double v = 0; v <= y->most; v += y->step)
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.0f</text>\n", LEFT - 8,
                place_y(y, v) + 4, v);
    fprintf(f, "<text x=\"%d\" y=\"%d\">wasted memory time, %% of a fixed 10 minutes</text>\n",
            LEFT, HEIGHT - 14);
    fprintf(f, "<text transform=\"translate(16 %d) rotate(-90)\">cold starts</text>\n</g>\n",
            HEIGHT - BOTTOM);
}

static void draw_point(FILE *f, const struct plot_point *p, const struct scale *x,
                       const struct scale *y)
{
    const char *space = strrchr(p->name, ' ');
    const bool is_goal = strncmp(p->name, "auto", 4) == 0 && space;

    fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>\n", place_x(x, p->waste_percent),
            place_y(y, p->cold));
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"10\">%s</text>\n",
            place_x(x, p->waste_percent) + 6, place_y(y, p->cold) - 5,
            is_goal ? space + 1 : p->name);
}

/* The points from `first` on that are of its series, in order; how many. */
static size_t draw_series(FILE *f, const struct plot_point *points, size_t count, int index,
                          const struct scale *x, const struct scale *y)
{
    static const char *const colours[] = {"#777", "#06c", "#093", "#90c", "#c30"};
    const char *colour = colours[(size_t)index % (sizeof colours / sizeof *colours)];
    const bool is_curve = strncmp(points->series, "auto", 4) == 0;
    size_t n = 0;

    fprintf(f, "<g fill=\"%s\">\n", colour);
    if (is_curve)
        fprintf(f, "<path fill=\"none\" stroke=\"%s\" d=\"", colour);
    for (size_t i = 0; is_curve && i < count && points[i].series == points->series; i++)
        fprintf(f, "%c%.1f %.1f ", i ? 'L' : 'M', place_x(x, points[i].waste_percent),
                place_y(y, points[i].cold));
    if (is_curve)
        fprintf(f, "\"/>\n");
    for (; n < count && points[n].series == points->series; n++)
        draw_point(f, &points[n], x, y);
    fprintf(f, "<text x=\"%d\" y=\"%d\">%s</text>\n</g>\n", WIDTH - RIGHT + 20,
            TOP + 20 + 20 * index, points->series);
    return n;
}

int keepalive_plot(const char *path, const struct plot_point *points, size_t count,
                   struct kg_err *err)
{
    double most_x = 0, most_y = 0;
    struct scale x, y;
    FILE *f = fopen(path, "we");
    int index = 0, failed;

    if (!f)
        return kg_fail(err, KG_EIO, "%s: %s", path, strerror(errno));
    for (size_t i = 0; i < count; i++) {
        most_x = fmax(most_x, points[i].waste_percent);
        most_y = fmax(most_y, points[i].cold);
    }
    x = scale_for(most_x);
    y = scale_for(most_y);
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" ", WIDTH,
            HEIGHT);
    fprintf(f,
            "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" "
            "fill=\"#fff\"/>\n");
    draw_axes(f, &x, &y);
    for (size_t i = 0; i < count;)
        i += draw_series(f, points + i, count - i, index++, &x, &y);
    fprintf(f, "</svg>\n");
    failed = ferror(f);
    if (fclose(f) != 0 || failed)
        return kg_fail(err, KG_EIO, "%s: cannot be written: %s", path, strerror(errno));
    return 0;
}
