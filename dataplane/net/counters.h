/* counters.h - what the link and network layers count; one row a counter */
#ifndef DATAPLANE_NET_COUNTERS_H
#define DATAPLANE_NET_COUNTERS_H

#include "base/counter.h"

#define NET_COUNTERS(X)                                                                            \
	X(net, frames_in, "frames", "frames received")                                             \
	X(net, frames_out, "frames", "frames given to the port")                                   \
	X(net, bytes_in, "bytes", "bytes received, link header included")                          \
	X(net, bytes_out, "bytes", "bytes given to the port, link header included")                \
	X(net, tx_full, "frames", "frames kept back because the port's ring was full")             \
	X(net, tx_dropped, "frames", "frames dropped because the port stayed full")                \
	X(net, not_ours, "frames", "frames for another MAC address or VLAN")                       \
	X(net, bad_frame, "frames", "frames too short or with stacked VLAN tags")                  \
	X(net, unknown_type, "frames", "frames of an EtherType that is not served")                \
	X(net, arp_requests_in, "packets", "ARP requests for one of our addresses")                \
	X(net, arp_replies_in, "packets", "ARP replies to a question of ours")                     \
	X(net, arp_unsolicited, "packets", "ARP packets that nobody asked for, dropped")           \
	X(net, arp_bad, "packets", "malformed ARP packets")                                        \
	X(net, address_conflicts, "packets", "packets of hosts that claim one of our addresses")   \
	X(net, arp_requests_out, "packets", "ARP requests sent")                                   \
	X(net, nd_solicitations_in, "packets", "neighbour solicitations for one of our addresses") \
	X(net, nd_advertisements_in, "packets", "neighbour advertisements to a question of ours")  \
	X(net, nd_unsolicited, "packets", "neighbour discovery that nobody asked for, dropped")    \
	X(net, nd_bad, "packets", "malformed neighbour discovery packets")                         \
	X(net, nd_solicitations_out, "packets", "neighbour solicitations sent")                    \
	X(net, resolve_failed, "packets", "packets dropped: the next hop does not answer")         \
	X(net, resolve_queue_full, "packets", "packets dropped: too many wait for their next hop") \
	X(net, ip4_in, "packets", "IPv4 packets for us")                                           \
	X(net, ip4_truncated, "packets", "IPv4 packets shorter than they say")                     \
	X(net, ip4_bad_header, "packets", "IPv4 packets with an impossible header")                \
	X(net, ip4_bad_checksum, "packets", "IPv4 packets with a wrong header checksum")           \
	X(net, ip4_bad_source, "packets", "IPv4 packets with an impossible source address")        \
	X(net, ip6_in, "packets", "IPv6 packets for us")                                           \
	X(net, ip6_truncated, "packets", "IPv6 packets shorter than they say")                     \
	X(net, ip6_bad_header, "packets", "IPv6 packets with impossible headers")                  \
	X(net, ip6_bad_option, "packets", "IPv6 packets with an option that asks for their end")   \
	X(net, ip6_routed, "packets", "IPv6 packets with a routing header to go on")               \
	X(net, ip6_bad_source, "packets", "IPv6 packets with an impossible source address")        \
	X(net, not_for_us, "packets", "packets for an address that is not ours")                   \
	X(net, unknown_protocol, "packets", "packets of a protocol that is not served")            \
	X(net, fragments_in, "packets", "fragments received")                                      \
	X(net, reassembled, "packets", "datagrams put together from fragments")                    \
	X(net, fragments_overlap, "packets", "fragments dropped with their datagram: overlap")     \
	X(net, fragments_bad, "packets", "fragments dropped: impossible or over the budget")       \
	X(net, reassembly_given_up, "packets", "datagrams whose fragments never came together")    \
	X(net, icmp_echo_in, "packets", "ICMP echo requests answered")                             \
	X(net, icmp_errors_in, "packets", "ICMP destination-unreachable messages taken")           \
	X(net, icmp_bad, "packets", "ICMP packets malformed, of other types or over the limit")    \
	X(net, tcp_bad_checksum, "packets", "TCP segments with a wrong checksum")                  \
	X(net, no_route, "packets", "packets dropped: no route to the destination")                \
	X(net, oversized, "packets", "packets dropped: larger than the port's MTU")                \
	X(net, no_buffer, "packets", "times no packet buffer was free")                            \
	X(net, mld_queries_in, "packets", "multicast listener queries answered")                   \
	X(net, mld_reports_out, "packets", "multicast listener reports sent")                      \
	X(net, rss_disagreed, "packets", "segments whose hardware hash was not ours")              \
	X(net, handed_over, "packets", "packets handed to the worker that owns their flow")        \
	X(net, handover_full, "packets", "packets dropped: the owner's ring was full")

COUNTER_ENUM(net, NET_COUNTERS)

#endif
