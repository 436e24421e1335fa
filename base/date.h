/* date.h - the date-time of RFC 5322 section 3.3, in UTC.  Pure function. */
#ifndef BASE_DATE_H
#define BASE_DATE_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { DATE_TEXT_BYTES = 40 };

/* text must hold DATE_TEXT_BYTES; returns it.  The names are the RFC's, whatever the locale. */
static inline const char *date_text(int64_t unix_s, char *text)
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
					   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t t = unix_s;
	struct tm tm;

	gmtime_r(&t, &tm);
	snprintf(text, DATE_TEXT_BYTES, "%s, %d %s %d %02d:%02d:%02d +0000", days[tm.tm_wday],
		 tm.tm_mday, months[tm.tm_mon], (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min,
		 tm.tm_sec);
	return text;
}

#endif
