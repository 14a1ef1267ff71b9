public import JobCore
import LDAP

/// The daemon's action for an account, according to its entry.
public enum Decision: Hashable, Sendable {
    /// Nothing.
    case leave(LeaveReason)
    /// The date of the request has not come.
    case wait(until: Timestamp)
    /// The date of the request has come by a clock that may be wrong.
    case waitForClock
    /// The request is to be done now.
    case claim(Operation)
    /// Claimed by us and not finished: the daemon was stopped or crashed, or the job waits for its next attempt.
    case resume(Operation)
    /// The request cannot be carried out as it is.
    case refuse(ProvisioningFailure)

    var isResumption: Bool { if case .resume = self { true } else { false } }
    var isRefusal: Bool { if case .refuse = self { true } else { false } }

    /// Whether the account is left to the daemon of another host.
    var isOthers: Bool {
        switch self {
        case .leave(.otherHost), .leave(.noHost): true
        default: false
        }
    }
}

/// Why an account is left alone.
public enum LeaveReason: Hashable, Sendable {
    /// Its mode is requested or claimed, and its state is not `0`.
    case nothingAsked
    /// Its request is done.
    case done
    /// The last attempt failed with this ReturnValue, and there is no new request.
    case failed(returnValue: String)
    /// It names only hosts of other daemons.
    case otherHost([String])
    /// It names none, and this daemon serves certain hosts.
    case noHost
    /// It names hosts of several daemons: without a claim attribute each would take the other's claim for its own
    /// unfinished one.
    case sharedHosts([String])
    /// Another daemon holds the claim.
    case claimed(by: String)
    /// Its date has passed, and the settings skip such requests.
    case overdue(String)
}

/// The rules of a daemon's decisions.
public struct DecisionPolicy: Sendable {
    /// Which accounts are ours.
    public var scope: WatchScope
    /// Whether a request is done whose date passed while the daemon did not run (setting `OVERDUE`).
    public var runsOverdue: Bool
    /// Whether `delete` needs `sstIsActive: FALSE`, which the daemon can see (setting `REQUIRE_INACTIVE_FOR_DELETE`).
    public var deleteNeedsInactive: Bool
    /// Our name in the claim attribute.
    public var claimHolder: String
    /// Defines when a day begins.
    public var calendar: DayCalendar

    /// The defaults are those of the settings.
    public init(
        scope: WatchScope, runsOverdue: Bool = true, deleteNeedsInactive: Bool = true, claimHolder: String = "",
        calendar: DayCalendar = .system
    ) {
        self.scope = scope
        self.runsOverdue = runsOverdue
        self.deleteNeedsInactive = deleteNeedsInactive
        self.claimHolder = claimHolder
        self.calendar = calendar
    }

    /// The names of the protocol's attributes.
    public var names: AttributeNames { scope.names }

    /// Decides from the entry's current state alone.
    /// - Parameters:
    ///   - start: when the daemon started; nil: now. Only what passed before is overdue, not a request that has waited for its turn.
    ///   - ignoringDate: an operator wants the request to be done now.
    ///   - isClockDoubted: whether the clock may be wrong; called only for requests with a date.
    public func decide(
        _ status: AccountStatus, now: Timestamp, start: Timestamp? = nil, ignoringDate: Bool = false,
        isClockDoubted: () -> Bool = { false }
    ) -> Decision {
        if let reason = notOurs(status) { return .leave(reason) }
        // Also for a new request: the holder may still work on the previous one.
        if let claim = othersClaim(of: status) { return .leave(.claimed(by: claim)) }
        switch status.phase {
        case .idle: return .leave(.nothingAsked)
        case .done: return .leave(.done)
        case .failed: return .leave(.failed(returnValue: status.returnValue ?? ""))
        case .claimed:
            if let refusal = liveAccountRefusal(status) { return .refuse(refusal) }
            return .resume(status.mode.operation)
        case .requested:
            return decideRequest(status, now: now, start: start ?? now, ignoringDate: ignoringDate, isClockDoubted)
        }
    }

    private func decideRequest(
        _ status: AccountStatus, now: Timestamp, start: Timestamp, ignoringDate: Bool, _ isClockDoubted: () -> Bool
    ) -> Decision {
        if let date = status.date, date != "0" {
            guard let day = CalendarDay(digits: date) else {
                return .refuse(
                    ProvisioningFailure(
                        .undefinedError,
                        reason: "\(names.dates[0]) of \(status.dn) is \(date.quotedValue), which is not a date",
                        hint: "write 0 for at once, or a date as YYYYMMDD, and the request again"))
            }
            if !ignoringDate {
                let due = calendar.startOfDay(day)
                if due > now { return .wait(until: due) }
                if isClockDoubted() { return .waitForClock }
                if !runsOverdue, day < calendar.day(start) { return .leave(.overdue(date)) }
            }
        }
        if let refusal = liveAccountRefusal(status) { return .refuse(refusal) }
        return .claim(status.mode.operation)
    }

    /// The claim of another daemon that a request waits for; nil: there is none.
    package func othersClaim(of status: AccountStatus) -> String? {
        guard status.phase == .requested || status.phase == .claimed, names.claim != nil else { return nil }
        return status.claim.flatMap { isOwn($0) ? nil : $0 }
    }

    /// Whether a claim is from this daemon, of this run or a previous one.
    func isOwn(_ claim: String) -> Bool { claim.hasPrefix(claimHolder + " ") }

    private func notOurs(_ status: AccountStatus) -> LeaveReason? {
        guard let ours = scope.hosts?.map(\.caseIgnoreFolded) else { return nil }
        if status.hosts.isEmpty { return .noHost }
        let others = status.hosts.filter { !ours.contains($0.caseIgnoreFolded) }
        if others.count == status.hosts.count { return .otherHost(others) }
        return others.isEmpty || names.claim != nil ? nil : .sharedHosts(status.hosts)
    }

    /// A delete of an account that is still active may be a mistake. An account of which that cannot be seen may be active.
    private func liveAccountRefusal(_ status: AccountStatus) -> ProvisioningFailure? {
        guard deleteNeedsInactive, status.mode.operation == .delete, status.isActive != false else { return nil }
        let (active, isVisible) = (names.active, status.isActive != nil)
        // Accounts that are to be deleted get no backups.
        let wayBack =
            "if it is not to be deleted, write \(names.mode): modify and \(names.state): 0; until then no backups are made"
        let next =
            isVisible
            ? "set \(active) to FALSE"
            : "run prov-backup-rsnapshot check, which tells what the daemon cannot see, or set \(active) to FALSE"
        return ProvisioningFailure(
            .undefinedError,
            reason:
                "\(status.dn) is to be deleted, and its \(active) is \(isVisible ? "TRUE" : "missing or not visible to the daemon")",
            hint:
                "\(wayBack); else \(next), and write \(names.mode): delete again, or set REQUIRE_INACTIVE_FOR_DELETE = no"
        )
    }
}

extension LeaveReason: CustomStringConvertible {
    /// The reason as half a sentence.
    public var description: String {
        switch self {
        case .nothingAsked: "a mode without state 0 is no request"
        case .done: "done"
        case .failed(let value):
            "the last attempt failed with ReturnValue \(value.quotedValue), and there is no new request"
        case .otherHost(let hosts): "it belongs to \(hosts.quoted)"
        case .noHost: "it names no host, and this daemon serves only those of certain hosts"
        case .sharedHosts(let hosts):
            "it names hosts of several daemons, which need a claim attribute for that: \(hosts.quoted)"
        case .claimed(let holder): "another daemon holds the claim: \(holder.quotedValue)"
        case .overdue(let date): "its day \(date.quotedValue) has passed, and overdue requests are skipped"
        }
    }
}

extension [String] {
    /// The first values, quoted for messages.
    fileprivate var quoted: String {
        prefix(5).map(\.quotedValue).joined(separator: ", ") + (count > 5 ? " and \(count - 5) more" : "")
    }
}

extension CalendarDay {
    /// - Parameter text: `YYYYMMDD`.
    /// - Returns: nil for anything but eight digits that are a date.
    fileprivate init?(digits text: String) {
        guard text.utf8.count == 8, text.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(text) else {
            return nil
        }
        self.init(year: number / 10_000, month: number / 100 % 100, day: number % 100)
    }
}
