/** Which page the shared view names. */
import { EyeOff } from "lucide-react";
import { useTranslation } from "react-i18next";
import type { View } from "../types";
import { AllergiesPage } from "./Allergies";
import { DocumentsPage } from "./Documents";
import { HistoryPage } from "./History";
import { ImagingPage } from "./Imaging";
import { LabsPage } from "./Labs";
import { MedicationsPage } from "./Medications";
import { ProblemsPage } from "./Problems";
import { Notice } from "./parts";
import { ReportsPage } from "./Reports";
import { SummaryPage } from "./Summary";
import { VitalsPage } from "./Vitals";

export function PageContent({ view }: { view: View }) {
  const { t } = useTranslation();
  switch (view.page) {
    case "summary":
      return <SummaryPage />;
    case "problems":
      return <ProblemsPage item={view.item} />;
    case "medications":
      return <MedicationsPage item={view.item} />;
    case "allergies":
      return <AllergiesPage item={view.item} />;
    case "labs":
      return <LabsPage item={view.item} />;
    case "vitals":
      return <VitalsPage item={view.item} />;
    case "reports":
      return <ReportsPage item={view.item} />;
    case "imaging":
      return <ImagingPage item={view.item} />;
    case "documents":
      return <DocumentsPage item={view.item} />;
    case "history":
      return <HistoryPage item={view.item} />;
    default:
      // A newer server may know a page that this client does not.
      return <Notice icon={EyeOff} title={t("record.unknownPage")} body="" />;
  }
}
