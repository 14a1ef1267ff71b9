import Glibc

/// A name of the time zone database that the system keeps in /usr/share/zoneinfo.
enum TimeZoneName {
    /// - Returns: what is wrong with it; `nil` when it can be used. Empty stands for the system's own zone.
    static func fault(_ name: String) -> String? {
        if name.isEmpty { return nil }
        guard !name.hasPrefix("/"), !name.split(separator: "/").contains("..") else { return "this is a path, not a name" }
        var status = stat()
        guard stat("/usr/share/zoneinfo/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            return "there is no such time zone in /usr/share/zoneinfo"
        }
        return nil
    }
}
