package sms

import (
	"strings"
	"unicode/utf16"
)

// The characters of GSM 7-bit, 3GPP TS 23.038, section 6.2.1: those of the
// default alphabet, and those of its extension table, which take two places.
const (
	gsmAlphabet = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
		"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsmExtension = "\f^{}\\[~]|€"
)

// What fits: alone, and in each part of several, whose header takes some of it.
const (
	septetsAlone, septetsEach = 160, 153
	unitsAlone, unitsEach     = 70, 67
)

// Segments returns how many SMS a text takes, which is how often it is billed,
// and whether it is sent as UCS-2 because GSM 7-bit lacks one of its characters.
// An empty text takes one.
func Segments(text string) (n int, unicode bool) {
	var sizes []int
	for _, r := range text {
		switch {
		case strings.ContainsRune(gsmAlphabet, r):
			sizes = append(sizes, 1)
		case strings.ContainsRune(gsmExtension, r):
			sizes = append(sizes, 2)
		default:
			unicode = true
		}
	}
	if !unicode {
		return pack(sizes, septetsAlone, septetsEach), false
	}
	sizes = sizes[:0]
	for _, r := range text {
		sizes = append(sizes, max(1, utf16.RuneLen(r)))
	}
	return pack(sizes, unitsAlone, unitsEach), true
}

// pack fills segments without splitting an escaped character or a pair of surrogates.
func pack(sizes []int, alone, each int) int {
	var total, n, left int
	for _, size := range sizes {
		total += size
		if size > left {
			n, left = n+1, each
		}
		left -= size
	}
	if total <= alone {
		return 1
	}
	return n
}
