/// The options of rsync 3.5 that a site may write into the template.
///
/// A snapshot is the unchanged whole of `incoming/`, in its own files or files shared with the previous snapshot. Nothing else is read, written or
/// started, the customer's files are not changed, and rsync's messages alone tell how the copy ended. Options that preserve this are
/// allowed; all others, and unknown ones, are refused with the reason.
enum RsyncOptions {
    // MARK: - The table

    /// Allowed options, by their long names. Excluding files (`--exclude`, `--max-size`, `--one-file-system`, …) is the site's decision.
    private static let allowed = names(
        """
        8-bit-output acls archive atimes block-size bwlimit cc checksum checksum-choice checksum-seed chmod compress
        compress-choice compress-level compress-threads confine-root cvs-exclude D del delete delete-after delete-before
        delete-delay delete-during delete-excluded devices drop-D exclude executability F filter force from0 fsync fuzzy
        group hard-links human-readable inc-recursive i-r include ipv4 ipv6 links max-alloc max-size min-size mkpath
        modify-window numeric-ids old-args omit-dir-times omit-link-times one-file-system open-noatime outbuf owner perms
        preallocate protect-args quiet recursive safe-links secluded-args skip-compress sparse specials stats stderr super
        timeout times trust-sender whole-file xattrs zc zl zt
        """)

    private static let refusals: [(names: Set<String>, reason: String)] = [
        ("relative files-from dirs old-dirs old-d", "other paths than those of incoming/ would be copied"),
        (
            "dry-run list-only only-write-batch write-batch read-batch version help",
            "nothing would be copied, or it would go elsewhere"
        ),
        ("remove-source-files remove-sent-files delete-missing-args", "the customer's own files would be removed"),
        ("link-dest copy-dest compare-dest", "the daemon says which snapshots files are shared with"),
        (
            "inplace append append-verify write-devices",
            "files that older snapshots share would be changed in them as well"
        ),
        (
            "existing ignore-non-existing ignore-existing update size-only ignore-missing-args ignore-errors max-delete prune-empty-dirs",
            "files or changes would be missing without a message"
        ),
        ("ignore-times", "every file would be stored again each time"),
        (
            "copy-links copy-unsafe-links copy-dirlinks keep-dirlinks insecure-links",
            "links that the customer makes would be followed"
        ),
        (
            "fake-super munge-links copy-devices chown usermap groupmap copy-as iconv crtimes",
            "files would not be in the snapshot as the customer has stored them"
        ),
        ("backup backup-dir suffix", "replaced files would be kept next to the new ones"),
        (
            "partial partial-dir delay-updates P",
            "an interrupted copy would leave files that look complete"
        ),
        ("temp-dir", "files would be written outside the snapshot"),
        (
            "stop-after stop-at",
            "the copy would be cut off; TIMEOUT of [Backup Jobs] does that and continues the next time"
        ),
        (
            "verbose itemize-changes progress out-format info debug log-file-format",
            "names of the customer's files would be printed among the messages that determine the outcome"
        ),
        ("log-file", "rsync appends to it by name, and its output is in the history already: see jobs show"),
        (
            "rsh rsync-path remote-option address port sockopts blocking-io password-file early-input protocol contimeout no-motd",
            "the copy is local: no other machine and no other program has a part in it"
        ),
        ("daemon server sender config dparam", "rsync would become a server"),
        (
            "exclude-from include-from",
            "such files have a line of their own; write exclude_file<TAB>FILE or include_file<TAB>FILE"
        ),
    ].map { (names($0.0), $0.1) }

    /// Options that take a value, after `=` or as the next word.
    private static let withValue = names(
        """
        address backup-dir block-size bwlimit cc checksum-choice checksum-seed chmod chown compare-dest compress-choice
        compress-level compress-threads config confine-root contimeout copy-as copy-dest debug dparam early-input exclude
        exclude-from files-from filter groupmap iconv include include-from info link-dest log-file log-file-format max-alloc
        max-delete max-size min-size modify-window only-write-batch out-format outbuf partial-dir password-file port protocol
        read-batch remote-option rsh rsync-path skip-compress sockopts stderr stop-after stop-at suffix temp-dir timeout
        usermap write-batch zc zl zt
        """)

    private static let letters: [Character: String] = [
        "v": "verbose", "q": "quiet", "c": "checksum", "a": "archive", "r": "recursive", "R": "relative", "b": "backup",
        "u": "update", "d": "dirs", "l": "links", "L": "copy-links", "k": "copy-dirlinks", "K": "keep-dirlinks",
        "H": "hard-links", "p": "perms", "E": "executability", "A": "acls", "X": "xattrs", "o": "owner", "g": "group",
        "D": "D", "t": "times", "U": "atimes", "N": "crtimes", "O": "omit-dir-times", "J": "omit-link-times",
        "S": "sparse", "n": "dry-run", "W": "whole-file", "x": "one-file-system", "B": "block-size", "e": "rsh",
        "m": "prune-empty-dirs", "I": "ignore-times", "@": "modify-window", "T": "temp-dir", "y": "fuzzy",
        "z": "compress", "C": "cvs-exclude", "f": "filter", "F": "F", "0": "from0", "s": "secluded-args",
        "8": "8-bit-output", "h": "human-readable", "P": "P", "i": "itemize-changes", "M": "remote-option", "4": "ipv4",
        "6": "ipv6", "V": "version",
    ]

    /// The options of `-a` that a faithful copy needs; they must not be disabled by `--no-…`.
    private static let archived = names("recursive links perms times group owner")
    private static let archivedLetters = "rlptgo"

    private static func names(_ text: String) -> Set<String> {
        Set(text.split(whereSeparator: \.isWhitespace).map(String.init))
    }

    // MARK: - Checking

    /// Splits a value as rsnapshot does: at blanks outside quotes; quotes are removed.
    static func words(_ value: String, of name: String) throws(RsnapshotSyntaxError) -> [String] {
        var words: [String] = [""]
        var quote: Character?
        for character in value {
            if let open = quote {
                if character == open {
                    quote = nil
                } else if character == "'" || character == "\"" {
                    throw RsnapshotSyntaxError(
                        "\(name) has quotes within quotes",
                        "write them as rsnapshot reads them: see rsnapshot(1), rsync_long_args")
                } else {
                    words[words.count - 1].append(character)
                }
            } else if character.isWhitespace {
                words.append("")
            } else if character == "'" || character == "\"" {
                quote = character
            } else {
                words[words.count - 1].append(character)
            }
        }
        guard quote == nil else {
            throw RsnapshotSyntaxError("\(name) has a quote that is not closed", "close it")
        }
        return words.filter { !$0.isEmpty }
    }

    /// - Parameter value: of `rsync_short_args`.
    static func check(short value: String) throws(RsnapshotSyntaxError) {
        let flags = value.dropFirst()
        guard value.hasPrefix("-"), !flags.isEmpty, flags.utf8.allSatisfy(isAlphanumeric) else {
            throw RsnapshotSyntaxError("rsync_short_args is \(value)", "write - and letters, such as -a")
        }
        var rest: [String] = []
        try check(letters: flags, &rest)
        guard flags.contains("a") || archivedLetters.allSatisfy(flags.contains) else {
            throw RsnapshotSyntaxError(
                "rsync_short_args \(value) does not keep owners, rights, times and links of all files", "write -a")
        }
    }

    /// - Parameter words: of `rsync_long_args`.
    static func check(long words: [String]) throws(RsnapshotSyntaxError) {
        // Reversed, so that values of options can be popped.
        var rest = Array(words.reversed())
        while let word = rest.popLast() {
            guard word.hasPrefix("-"), word != "-", word != "--" else {
                throw RsnapshotSyntaxError(
                    "rsync_long_args has the word \(word), which rsync takes for a further path",
                    "take it out, or put quotes around a value with blanks")
            }
            guard word.hasPrefix("--") else {
                try check(letters: word.dropFirst(), &rest)
                continue
            }
            let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            // One letter after -- would be mistaken for a short option below.
            guard name.count > 1 else { throw unknown(word) }
            var value = parts.count > 1 ? String(parts[1]) : nil
            if value == nil, withValue.contains(name) { value = try next(&rest, for: "--\(name)") }
            try check(name, value: value, spelled: "--\(name)")
        }
    }

    private static func check(letters flags: Substring, _ rest: inout [String]) throws(RsnapshotSyntaxError) {
        var flags = flags
        while let letter = flags.popFirst() {
            guard let name = letters[letter] else { throw unknown("-\(letter)") }
            guard withValue.contains(name) else {
                try check(name, value: nil, spelled: "-\(letter)")
                continue
            }
            let value = flags.isEmpty ? try next(&rest, for: "-\(letter)") : String(flags)
            try check(name, value: value, spelled: "-\(letter)")
            return
        }
    }

    private static func next(_ rest: inout [String], for option: String) throws(RsnapshotSyntaxError) -> String {
        guard let value = rest.popLast() else {
            throw RsnapshotSyntaxError("rsync's \(option) has no value", "write one, or take the option out")
        }
        return value
    }

    private static func check(_ name: String, value: String?, spelled option: String) throws(RsnapshotSyntaxError) {
        if let reason = refusals.first(where: { $0.names.contains(name) })?.reason {
            throw RsnapshotSyntaxError("rsync's \(option) is refused: \(reason)", "take it out")
        }
        if name == "modify-window", let value, value != "0", value != "-1" {
            throw RsnapshotSyntaxError(
                "rsync's \(option) \(value) is refused: changes within that time would be missing without a message",
                "write --modify-window=-1")
        }
        if name.hasPrefix("no-"), case let positive = String(name.dropFirst(3)) {
            let whole = positive.count == 1 ? positive.first.flatMap { letters[$0] } ?? positive : positive
            if archived.contains(whole) || whole == "archive" {
                throw RsnapshotSyntaxError(
                    "rsync's \(option) is refused: files would not be in the snapshot as the customer has stored them",
                    "take it out")
            }
            if allowed.contains(whole) || refusals.contains(where: { $0.names.contains(whole) })
                || whole == "implied-dirs"
            {
                return
            }
        }
        guard allowed.contains(name) else { throw unknown(option) }
    }

    private static func unknown(_ option: String) -> RsnapshotSyntaxError {
        RsnapshotSyntaxError(
            "\(option) is not an rsync option known to keep snapshots complete", "take it out, or correct its name")
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"):
            true
        default: false
        }
    }
}
