/* SPDX-License-Identifier: BSD-3-Clause */
/* By what they are for, as filters.h has them; --list prints them in this order. */
#include "filters/table.h"

#include <stddef.h>

#include "filters/filters.h"

/* One a line, however many there are. */
/* clang-format off */
const struct nr_layer_type *const nr_filters[] = {
	&nr_offset_type,
	&nr_partition_type,
	&nr_truncate_type,
	&nr_swab_type,
	&nr_map_type,
	&nr_scan_type,
	&nr_tar_type,
	&nr_xva_type,
#ifdef NR_HAVE_ZSTD
	&nr_zstd_type,
#endif
#ifdef NR_HAVE_ZLIB
	&nr_gzip_type,
#endif
#ifdef NR_HAVE_LZMA
	&nr_xz_type,
#endif
#ifdef NR_HAVE_LZ4
	&nr_lz4_type,
#endif
#ifdef NR_HAVE_BZIP2
	&nr_bzip2_type,
#endif
#ifdef NR_HAVE_LUKS
	&nr_luks_type,
#endif
	&nr_cow_type,
	&nr_readahead_type,
	&nr_cacheextents_type,
	&nr_readonly_type,
	&nr_protect_type,
	&nr_nozero_type,
	&nr_discard_type,
	&nr_fua_type,
	&nr_noextents_type,
	&nr_nocache_type,
	&nr_noparallel_type,
	&nr_multi_conn_type,
	&nr_rotational_type,
	&nr_extentlist_type,
	&nr_mask_type,
	&nr_cache_type,
	&nr_error_type,
	&nr_delay_type,
	&nr_pause_type,
	&nr_evil_type,
	&nr_ddrescue_type,
	&nr_short_type,
	&nr_checkwrite_type,
	&nr_verify_type,
	&nr_retry_request_type,
	&nr_retry_type,
	&nr_limit_type,
	&nr_ip_type,
	&nr_rate_type,
	&nr_time_limit_type,
	&nr_exitlast_type,
	&nr_exitwhen_type,
	&nr_exportname_type,
	&nr_log_type,
	&nr_stats_type,
	&nr_count_type,
	&nr_blocksize_type,
	&nr_blocksize_policy_type,
	&nr_nofilter_type,
	NULL,
};
/* clang-format on */
