/* SPDX-License-Identifier: BSD-3-Clause */
/* The filters that are built in, one declaration each, by what they are for. */
#ifndef FILTERS_FILTERS_H
#define FILTERS_FILTERS_H

#include "nbdring/layer.h"

/* address */
extern const struct nr_layer_type nr_offset_type;
extern const struct nr_layer_type nr_partition_type;
extern const struct nr_layer_type nr_truncate_type;
extern const struct nr_layer_type nr_swab_type;
extern const struct nr_layer_type nr_map_type;
extern const struct nr_layer_type nr_scan_type;

/* archives */
extern const struct nr_layer_type nr_tar_type;
extern const struct nr_layer_type nr_xva_type;
extern const struct nr_layer_type nr_gzip_type;  /* with zlib */
extern const struct nr_layer_type nr_zstd_type;  /* with libzstd */
extern const struct nr_layer_type nr_xz_type;    /* with liblzma */
extern const struct nr_layer_type nr_lz4_type;   /* with liblz4 and zlib */
extern const struct nr_layer_type nr_bzip2_type; /* with libbz2 and zlib */

/* encryption */
extern const struct nr_layer_type nr_luks_type; /* with libcryptsetup, json-c and GnuTLS */

/* overlays and memories */
extern const struct nr_layer_type nr_cow_type;
extern const struct nr_layer_type nr_readahead_type;
extern const struct nr_layer_type nr_cacheextents_type;

/* masking */
extern const struct nr_layer_type nr_readonly_type;
extern const struct nr_layer_type nr_protect_type;
extern const struct nr_layer_type nr_nozero_type;
extern const struct nr_layer_type nr_discard_type;
extern const struct nr_layer_type nr_fua_type;
extern const struct nr_layer_type nr_noextents_type;
extern const struct nr_layer_type nr_nocache_type;
extern const struct nr_layer_type nr_noparallel_type;
extern const struct nr_layer_type nr_multi_conn_type;
extern const struct nr_layer_type nr_rotational_type;
extern const struct nr_layer_type nr_extentlist_type;
extern const struct nr_layer_type nr_mask_type;

/* caching */
extern const struct nr_layer_type nr_cache_type;

/* faults */
extern const struct nr_layer_type nr_error_type;
extern const struct nr_layer_type nr_delay_type;
extern const struct nr_layer_type nr_pause_type;
extern const struct nr_layer_type nr_evil_type;
extern const struct nr_layer_type nr_ddrescue_type;
extern const struct nr_layer_type nr_short_type;
extern const struct nr_layer_type nr_checkwrite_type;
extern const struct nr_layer_type nr_verify_type;
extern const struct nr_layer_type nr_retry_request_type;
extern const struct nr_layer_type nr_retry_type;

/* policy */
extern const struct nr_layer_type nr_limit_type;
extern const struct nr_layer_type nr_ip_type;
extern const struct nr_layer_type nr_rate_type;
extern const struct nr_layer_type nr_time_limit_type;
extern const struct nr_layer_type nr_exitlast_type;
extern const struct nr_layer_type nr_exitwhen_type;
extern const struct nr_layer_type nr_exportname_type;

/* observation */
extern const struct nr_layer_type nr_log_type;
extern const struct nr_layer_type nr_stats_type;
extern const struct nr_layer_type nr_count_type;

/* alignment */
extern const struct nr_layer_type nr_blocksize_type;
extern const struct nr_layer_type nr_blocksize_policy_type;

extern const struct nr_layer_type nr_nofilter_type;

#endif
