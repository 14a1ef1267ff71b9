import EventLoop
import JobCore
import Testing

@testable import BackupService

@Suite struct CopyVerdictTests {
    private func verdict(
        _ reports: String, _ said: String = "", _ cause: ScriptResult.Cause = .itself,
        _ termination: TerminationStatus = .exited(code: 0)
    ) -> Result<SnapshotState.End, JobOutcome> {
        var output = RsyncOutput()
        output.read(Array(said.utf8))
        output.end()
        return Result { [output] () throws(JobOutcome) in
            try SnapshotState.End(
                ScriptResult(termination: termination, cause: cause), CopyReports(Array(reports.utf8)), output,
                command: "/usr/bin/bwrap")
        }
    }

    private func isWhole(_ verdict: Result<SnapshotState.End, JobOutcome>) -> Bool {
        (try? verdict.get())?.isWhole == true
    }
    private func isPartial(_ verdict: Result<SnapshotState.End, JobOutcome>) -> Bool {
        (try? verdict.get())?.isWhole == false
    }
    private func isFailed(_ verdict: Result<SnapshotState.End, JobOutcome>) -> Bool {
        if case .failure(let outcome) = verdict { outcome.result == .failed } else { false }
    }

    @Test("a full quota is named also where the daemon's own writes exceed it")
    func quota() {
        let full = HeldDirectory.Failure(operation: "write", path: "/var/backup/3723707", cause: .diskQuotaExceeded)
        #expect(RsnapshotBackup.outcome(of: full)?.message.contains("raise sstQuota") == true)
    }

    @Test("rsync's 0 is a whole copy, and its 24 one from which files vanished, if it names some")
    func whole() {
        #expect(verdict("entered\nrsync exited 0\n") == .success(.init(isWhole: true)))
        let vanished = verdict(
            "entered\nrsync exited 24\n",
            "file has vanished: \"/home/a\"\nrsync warning: some files vanished (code 24)\n")
        #expect(isWhole(vanished) && (try? vanished.get())?.note.contains("/home/a") == true, "\(vanished)")
        #expect(isFailed(verdict("entered\nrsync exited 24\n")))
    }

    @Test(
        "rsync's 23 is a partial copy where every reason is one that no later try changes",
        arguments: [
            "rsync: [sender] send_files failed to open \"/h/a\": Permission denied (13)",
            "rsync: [sender] link_stat \"/h/a\" failed: No such file or directory (2)",
            "rsync: [generator] recv_generator: mkdir \"/h/a\" failed: File name too long (36)",
            "rsync: [sender] readlink_stat(\"/h/a\") failed: Too many levels of symbolic links (40)",
            "rsync: [receiver] chown \"/h/.sync/.a.x\" failed: Invalid argument (22)",
            "rsync: [generator] chown \"/h/.sync/.a.x\" failed: Operation not permitted (1)",
            "rsync: [receiver] set_acl: xacl_set(.a.vuRwlU, ACL_TYPE_ACCESS): Invalid argument (22)",
            "rsync: [generator] set_acl: sys_acl_set_file(d, ACL_TYPE_DEFAULT): Operation not permitted (1)",
            "rsync: [sender] send_files failed to open \"/h/a\": Operation not permitted (1)",
            "rsync: [sender] send_files failed to open \"/h/a\": Is a directory (21)",
            "rsync: [sender] send_files failed to open \"/h/a\": No such device or address (6)",
            "ERROR: a failed verification -- update discarded.",
            "filename overflows max-path len by 125: /h/deep/deep",
            "rsync: [sender] opendir \"/h" + String(repeating: "/d", count: 1_024)
                + "\" failed: Cannot allocate memory (12)",
        ])
    func partial(line: String) {
        let code = "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1338)"
        #expect(isPartial(verdict("entered\nrsync exited 23\n", line + "\n" + code + "\n")))
        // One reason of another kind is enough.
        let full = "rsync: [receiver] write failed on \"/h/b\": No space left on device (28)"
        for text in [line + "\n" + full, full + "\n" + line] {
            #expect(isFailed(verdict("entered\nrsync exited 23\n", text)))
        }
    }

    @Test("a file that became shorter during the copy was copied again: the copy is whole, unless rsync could not")
    func changed() {
        let line = "rsync: [sender] read errors mapping \"/h/a\": No data available (61)\n"
        let whole = verdict("entered\nrsync exited 23\n", line)
        #expect(isWhole(whole) && (try? whole.get())?.note.contains("/h/a") == true, "\(whole)")
        #expect(
            isPartial(
                verdict("entered\nrsync exited 23\n", line + "ERROR: a failed verification -- update discarded.\n")))
        #expect(isFailed(verdict("entered\nrsync exited 12\n", line)))
        #expect(
            isFailed(
                verdict(
                    "entered\nrsync exited 23\n",
                    line + "rsync: [sender] read errors mapping \"/h/b\": Input/output error (5)\n")))
        #expect(
            RsyncOutput.kind(
                of: "rsync: [receiver] mkstemp \"/h/] read errors mapping \" failed: No data available (61)")
                == \.errors)
    }

    @Test(
        "an error of disk, quota or memory fails the copy with every exit code",
        arguments: [5, 12, 23, 24, 28, 30, 116, 122])
    func shortage(number: Int) {
        let line = "rsync: [receiver] write failed on \"/h/(2)\": some words (\(number))\n"
        for code in [0, 10, 11, 12, 23, 24] {
            #expect(isFailed(verdict("entered\nrsync exited \(code)\n", line)), "code \(code)")
        }
    }

    @Test(
        "a line that begins with rsnapshot's or rsync's ERROR fails the copy with every exit code",
        arguments: [
            "ERROR: /usr/bin/rsync returned 23 while processing /h/incoming/",
            "ERROR: buffer overflow in recv_rules [Receiver]",
            "ERROR: out of memory in flist_expand [sender]",
        ])
    func errorLine(line: String) {
        #expect(RsyncOutput.kind(of: line) == \.errors)
        for code in [0, 23, 24] {
            #expect(isFailed(verdict("entered\nrsync exited \(code)\n", line + "\n")), "code \(code)")
            let other = "file has vanished: \"/h/ERROR: \"\n"
            #expect(isFailed(verdict("entered\nrsync exited \(code)\n", other + line + "\n" + other)), "code \(code)")
        }
        #expect(isWhole(verdict("entered\nrsync exited 24\n", "file has vanished: \"/h/\(line)\"\n")))
    }

    @Test("the hint depends on the system's error, not on a name, and the reason after a long name is kept")
    func hints() {
        func message(_ line: String) -> String {
            guard case .failure(let outcome) = verdict("entered\nrsync exited 11\n", line + "\n") else { return "" }
            return outcome.message
        }
        let name = "/h/" + String(repeating: "photo (28) ", count: 60)
        let failing = message("rsync: [receiver] write failed on \"\(name)\": Input/output error (5)")
        #expect(failing.contains("Input/output error (5)") && failing.contains("the disk fails"), "\(failing)")
        #expect(message("rsync: [receiver] write failed on \"/h/(5)\": x (28)").contains("the disk is full"))
        #expect(message("rsync: [sender] opendir \"/h/d\" failed: Cannot allocate memory (12)").contains("MEMORY"))
    }

    @Test("a file name cannot forge a reason, neither at its end nor by line feeds")
    func forged() {
        #expect(
            RsyncOutput.kind(of: "rsync: [receiver] chmod \"/h/chown \" failed: Operation not permitted (1)")
                == \.errors)
        #expect(
            RsyncOutput.kind(of: "rsync: [receiver] mkstemp \"/h/x (2)\" failed: No space left on device (28)")
                == \.errors)
        for operation in ["get_acl: sys_acl_get_file(] set_acl: x, ACL_TYPE_ACCESS)", "rename \"/h/] set_acl: \""] {
            #expect(RsyncOutput.kind(of: "rsync: [receiver] \(operation): Invalid argument (22)") == \.errors)
        }
        #expect(RsyncOutput.kind(of: "rsync: something without a number: (2)\"") == \.errors)
    }

    @Test("23 without a reason, an unknown code, a signal, a time limit and silence are failures")
    func failures() {
        #expect(isFailed(verdict("entered\nrsync exited 23\n")))
        #expect(isFailed(verdict("entered\nrsync exited 11\n")))
        #expect(isFailed(verdict("entered\nrsync killed 9\n")))
        #expect(isFailed(verdict("entered\nrsync exited 0\n", "", .timeLimit)))
        #expect(isFailed(verdict("entered\n", "", .itself, .signaled(number: 9))))
        #expect(isFailed(verdict("")))
        #expect(isFailed(verdict("fault unshare(CLONE_NEWUSER): No space left on device\n")))
        #expect(isFailed(verdict("entered\nfault execv: x\nrsync exited 0\n")))
    }

    @Test("of several runs of rsync the worst counts")
    func worst() {
        #expect(
            CopyReports(Array("entered\nrsync exited 0\nrsync exited 11\nrsync exited 0\n".utf8)).rsync
                == .exited(code: 11))
        #expect(CopyReports(Array("rsync exited 11\nrsync killed 9\n".utf8)).rsync == .signaled(number: 9))
        #expect(!CopyReports(Array("{ \"exit-code\": 0 }\n".utf8)).hasEntered)
    }

    @Test("output is read in pieces of any size, and only a little of it is kept")
    func pieces() {
        var output = RsyncOutput()
        let line = Array("rsync: [sender] send_files failed to open \"/h/a\": Permission denied (13)\n".utf8)
        for _ in 0..<1000 { for byte in line { output.read([byte]) } }
        output.end()
        #expect(output.uncopied.count == 1000 && output.uncopied.first.count == 5 && output.errors.count == 0)
        output.read(Array(repeating: UInt8(ascii: "x"), count: 1_000_000))
        output.end()
        #expect(output.errors.count == 0)
    }

    @Test("names are counted from rsync's statistics, which a file name cannot forge")
    func names() {
        func names(_ text: String) -> UInt64? {
            var output = RsyncOutput()
            output.read(Array(text.utf8))
            output.end()
            return output.names
        }
        #expect(names("") == nil)
        #expect(names("Number of files: 23 (reg: 21, dir: 2)\nNumber of created files: 22 (reg: 21, dir: 1)\n") == 23)
        #expect(names("Number of files: 0\n\nNumber of files: 7 (reg: 7)\n") == 7)
        for forged in [
            "file has vanished: \"/h/Number of files: 9\"\n", "Number of files: 99999999999999999999\n",
            " Number of files: 9\n", "Number of files: many\n",
        ] {
            #expect(names(forged) == nil, "\(forged)")
        }
    }

    @Test("a copy with less than a tenth of the files or of the bytes has shrunk")
    func shrunk() {
        func tree(_ files: UInt64, _ bytes: UInt64) -> SnapshotTree {
            .init(inode: 1, files: files, bytes: bytes)
        }
        #expect(!tree(0, 0).hasShrunk(from: nil))
        #expect(!tree(10, 10).hasShrunk(from: tree(100, 100)))
        #expect(tree(9, 100).hasShrunk(from: tree(100, 100)))
        #expect(tree(100, 9).hasShrunk(from: tree(100, 100)))
        #expect(tree(0, 4096).hasShrunk(from: tree(1, 8192)))
        #expect(!tree(0, 4096).hasShrunk(from: tree(0, 4096)))
        #expect(!tree(.max, .max).hasShrunk(from: tree(.max, .max)))
    }

    @Test(
        "a partial copy replaces only a partial one; one of an earlier version, of which that is unknown, counts as whole"
    )
    func replaces() {
        func tree(_ files: UInt64, _ isWhole: Bool?) -> SnapshotTree {
            .init(inode: 1, files: files, bytes: 100, isWhole: isWhole)
        }
        for full in [true, false, nil] {
            #expect(tree(100, true).replaces(tree(100, full)))
            #expect(tree(100, false).replaces(tree(100, full)) == (full == false))
            for isWhole in [true, false, nil] {
                #expect(!tree(9, isWhole).replaces(tree(100, full)))
                #expect(tree(9, isWhole).replaces(nil))
            }
        }
    }
}
