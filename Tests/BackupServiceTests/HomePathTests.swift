import SystemPackage
import Testing

@testable import BackupService

@Suite struct HomePathTests {
    private let places = HomePlaces(
        roots: ["/var/backup", "/srv/more"],
        configuredPools: [Pool(name: "test", volumes: ["/var/backup/disk1", "/srv/more"])])

    private func parse(_ text: String, uid: String = "3723707") -> Result<HomePath, HomePath.Invalid> {
        Result { () throws(HomePath.Invalid) in try HomePath(parsing: text, uid: uid, places: places) }
    }

    @Test(
        "a home below a root that ends in its own uid is accepted, and its account's directory is found",
        arguments: [
            ("/var/backup/3723707", "/var/backup/3723707", nil),
            ("/var/backup/7/707/723/3723707", "/var/backup/7/707/723/3723707", nil),
            (
                "/var/backup/7/707/723/3723707/chroot/./home/3723707", "/var/backup/7/707/723/3723707",
                "/var/backup/7/707/723/3723707/chroot"
            ),
            ("/srv/more/3723707/home/3723707", "/srv/more/3723707", nil),
        ] as [(String, FilePath, FilePath?)])
    func good(text: String, account: FilePath, chroot: FilePath?) throws {
        let home = try parse(text).get()
        #expect(home.accountDirectory == account)
        #expect(home.chroot == chroot)
        #expect(home.text == text)
        #expect(!home.path.components.contains(where: { $0.kind != .regular }))
    }

    @Test(
        "a text that is not the place of the account's own home is refused, and the reason names what is wrong",
        arguments: [
            ("", "absolute"), ("home/3723707", "absolute"), ("/etc/3723707", "none of the allowed roots"),
            ("/var/backup", "none of the allowed roots"), ("/var/backup/", "empty component"),
            ("/var/backup/../../etc/3723707", "component .."), ("/var/backup/3723707/..", "component .."),
            ("/var/backup//3723707", "empty component"), ("/var/backup/3723707/", "empty component"),
            ("/var/backup/4000001", "own uid"), ("/var/backup/4000001/b/3723707", "another account, 4000001"),
            ("/var/backup/3723707/home/4000001/3723707", "another account, 4000001"),
            ("/var/backup/3723707/chroot", "own uid"),
            ("/var/backupx/3723707", "none of the allowed roots"), ("/var/backup/././3723707", "more than one"),
            ("/var/./backup/3723707", "mark /./"), ("/var/backup/./3723707", "mark /./"),
            ("/var/backup/3723707/.", "mark /./"), ("/var/backup/.deleted/3723707", "begins with a dot"),
            ("/var/backup/-rf/3723707", "begins with a hyphen"), ("/var/backup/a b/3723707", "other characters"),
            ("/var/backup/$(id)/3723707", "other characters"), ("/var/backup/a#/3723707", "other characters"),
            ("/var/backup/" + String(repeating: "a", count: 256) + "/3723707", "longer than 255"),
            ("/var/backup/" + String(repeating: "a/", count: 600) + "3723707", "longer than 1024"),
        ])
    func bad(text: String, reason: String) throws {
        let failure = #expect(throws: HomePath.Invalid.self) { try parse(text).get() }
        #expect(failure?.reason.contains(reason) == true, "\(failure?.reason ?? "")")
    }

    @Test("a directory with a root or volume in it is not an account's own")
    func holdsVolume() {
        let places = HomePlaces(
            roots: ["/var/backup"], configuredPools: [Pool(name: "test", volumes: ["/var/backup/3723707/disk"])])
        #expect(throws: HomePath.Invalid.self) {
            try HomePath(parsing: "/var/backup/3723707", uid: "3723707", places: places)
        }
    }

    @Test(
        "the hashed path is made of the last six digits",
        arguments: [
            ("3723707", "/srv/more/7/707/723/3723707"), ("4000001", "/srv/more/1/001/000/4000001"),
            ("1234567890", "/srv/more/0/890/567/1234567890"),
        ] as [(String, FilePath)])
    func hashed(uid: String, path: FilePath) {
        let home = places.hashedHome(uid: uid, volume: "/srv/more")
        #expect(home.path == path)
        #expect(home.accountDirectory == path)
    }

    @Test("archived homes stay on the volume that held them")
    func base() throws {
        #expect(try parse("/var/backup/disk1/3723707").get().base == "/var/backup/disk1")
        #expect(try parse("/var/backup/3723707").get().base == "/var/backup")
    }

    @Test("settings that would let homes lie anywhere are refused")
    func badPlaces() {
        #expect(HomePlaces(roots: ["/"]).problems.count == 1)
        #expect(HomePlaces(roots: []).problems.count == 1)
        #expect(HomePlaces(roots: ["backup"]).problems.count >= 1)
        #expect(
            HomePlaces(roots: ["/var/backup"], configuredPools: [Pool(name: "test", volumes: ["/srv/x"])]).problems
                .count == 1)
        #expect(places.problems.isEmpty)
    }
}
