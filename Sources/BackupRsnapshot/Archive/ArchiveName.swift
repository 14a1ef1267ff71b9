import Glibc
import JobCore
import Provisioning
import SystemPackage

/// The name of an archived home: `UID-YYYYMMDDThhmmssZ`, with `-2`, `-3`, … where that was taken.
struct ArchiveName: Hashable, Sendable {
    /// The folder below a volume that holds archived homes.
    static let folder: FilePath.Component = ".deleted"

    let uid: String
    let archived: WallTime
    /// 1 for the first of that second.
    let number: Int

    init(uid: String, archived: WallTime, number: Int = 1) {
        self.uid = uid
        self.archived = archived
        self.number = number
    }

    var text: String { "\(uid)-\(archived.timestamp)" + (number == 1 ? "" : "-\(number)") }
    var component: FilePath.Component { .named(text) }

    /// - Returns: nil for a name that no archiving made.
    init?(parsing text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 || parts.count == 3, let uid = EntryReader.decimal(parts[0]),
            BackupAccount.uidRange.contains(uid), let archived = Self.time(parts[1])
        else { return nil }
        let number = parts.count == 3 ? EntryReader.decimal(parts[2]) : 1
        guard let number, (1...99).contains(number) else { return nil }
        self.init(uid: parts[0], archived: archived, number: Int(number))
        guard self.text == text else { return nil }
    }

    private static func time(_ text: String) -> WallTime? {
        let bytes = Array(text.utf8)
        guard bytes.count == 16, bytes[8] == UInt8(ascii: "T"), bytes[15] == UInt8(ascii: "Z") else { return nil }
        func number(_ range: Range<Int>) -> Int32? { Int32(String(decoding: bytes[range], as: UTF8.self)) }
        guard let year = number(0..<4), let month = number(4..<6), let day = number(6..<8), let hour = number(9..<11),
            let minute = number(11..<13), let second = number(13..<15)
        else { return nil }
        var broken = tm()
        (broken.tm_year, broken.tm_mon, broken.tm_mday) = (year - 1900, month - 1, day)
        (broken.tm_hour, broken.tm_min, broken.tm_sec) = (hour, minute, second)
        return WallTime(secondsSince1970: Int64(timegm(&broken)))
    }
}
