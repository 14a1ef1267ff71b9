import DirectoryModel
import JobCore

/// Compares the versions of an entry by their entryCSNs, as OpenLDAP orders them: by time, counter, server and modification
/// (draft-ietf-ldup-model-09, section 4.3). What is written otherwise cannot be compared.
enum EntryVersion {
    /// Whether one is certainly the older one.
    static func `is`(_ csn: AttributeValue, olderThan other: AttributeValue) -> Bool {
        isComparable(csn) && isComparable(other) && csn.bytes.lexicographicallyPrecedes(other.bytes)
    }

    /// Whether a comparable one was made after a time, by the clock of the server that made it.
    static func `is`(_ csn: AttributeValue, laterThan time: WallTime) -> Bool {
        let digits = time.timestamp.utf8.filter { $0 != UInt8(ascii: "T") }
        return digits.lexicographicallyPrecedes(csn.bytes)
    }

    /// `20261128120000.123456Z#000000#001#000000`
    static func isComparable(_ csn: AttributeValue) -> Bool {
        csn.bytes.count == 40
            && csn.bytes.allSatisfy {
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || "#.Zabcdef".utf8.contains($0)
            }
    }
}
